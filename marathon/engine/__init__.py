"""The loop between operators, master and ledger."""
