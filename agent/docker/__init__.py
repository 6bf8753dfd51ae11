"""The Docker containerizer: containers of a Docker engine on our own networks."""
