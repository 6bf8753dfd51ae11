"""The HTTP face of the zones, in the form of Mesos-DNS."""
