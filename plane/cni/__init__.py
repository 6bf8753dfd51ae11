"""The plane's end of CNI: the server that plugins ask, and the configuration files they get."""
