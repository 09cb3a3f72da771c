"""What an ESP shows of contacts, and what follows from it here and at the other destinations."""
