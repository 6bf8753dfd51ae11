"""What Marathon knows: apps, instances, deployments; values without behaviour of their own."""
