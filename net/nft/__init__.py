"""nftables from Python: one library handle, text in, JSON out."""
