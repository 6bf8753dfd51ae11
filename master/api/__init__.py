"""The master's HTTP interfaces."""
