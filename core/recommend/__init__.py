"""Products for a contact, each with the reason it was chosen."""
