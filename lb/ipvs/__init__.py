"""The load balancer as services of the kernel's IPVS."""
