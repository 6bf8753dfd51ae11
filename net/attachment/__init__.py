"""How a container joins a virtual network: plan, kernel, and the CNI commands around them."""
