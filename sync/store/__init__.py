"""What Segue remembers between runs, on SQLite or PostgreSQL."""
