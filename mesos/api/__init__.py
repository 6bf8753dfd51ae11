"""What the HTTP APIs of master and agent share: routing, negotiation, answers, event streams."""
