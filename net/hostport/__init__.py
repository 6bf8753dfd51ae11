"""Host ports, masquerade and fences of single containers: elements of constant tables."""
