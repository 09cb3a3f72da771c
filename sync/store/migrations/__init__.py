"""How the store's tables came to be, one Alembic revision per file in `versions`; `store.database` applies them.

A revision is never edited after a release. A new one is written by hand beside the change in `store.schema`, gets
the next number, and becomes `schema.HEAD`; a test compares the two on both databases.
"""
