"""What Segue remembers between runs, in SQLite or PostgreSQL: open it with `store.Store`.

Nothing here talks to an ESP or decides what to send; `sync.planning` and `sync.delivery` do.
"""
