"""What the load balancer shows over HTTP."""
