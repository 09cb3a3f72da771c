"""The consent ledger for people: shown, acted on at the desk, and as files."""
