"""The cluster as the leading master knows it: agents, frameworks, tasks, offers."""
