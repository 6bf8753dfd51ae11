"""A task's record, its status updates and the words of its end."""
