"""The load balancer as maps of one nftables table."""
