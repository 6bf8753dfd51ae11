"""The durable store of daemons: one protocol, two implementations."""
