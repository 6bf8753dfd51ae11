"""Every decision of the scheduler: pure functions."""
