"""The lake: tables that a run changes together, the ledger, and verifying."""
