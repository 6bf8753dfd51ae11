"""Service addresses: what every node answers on, on its loopback link."""
