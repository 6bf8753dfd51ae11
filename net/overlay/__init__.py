"""The overlay: how packets of virtual networks travel between nodes."""
