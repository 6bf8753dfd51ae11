"""Health checks: probes into a container's network, and what follows from them."""
