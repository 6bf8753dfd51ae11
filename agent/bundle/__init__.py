"""What a container is to be: the OCI bundle that a request becomes, before anything runs."""
