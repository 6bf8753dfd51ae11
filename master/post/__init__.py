"""What the master tells others, one module for each kind of listener."""
