"""The lake: its tables, runs that change several of them at once, the ledger, verifying."""
