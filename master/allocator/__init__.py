"""Who is offered what."""
