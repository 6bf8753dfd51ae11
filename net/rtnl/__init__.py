"""rtnetlink of one network namespace, off the event loop."""
