"""HTTP routes of virtual networking."""
