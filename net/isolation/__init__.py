"""Walls between virtual networks, and the ports that policies open in them."""
