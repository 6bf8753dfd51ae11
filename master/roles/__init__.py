"""What operators set of roles: weights and quota, durable before they hold."""
