"""The node API over HTTP."""
