"""The network registry: networks, leases, policies."""
