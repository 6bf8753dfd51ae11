"""Messages of the Mesos v1 API and their JSON rules."""
