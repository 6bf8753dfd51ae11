"""The reconcile loop: desired, actual, delta, and the loop around them."""
