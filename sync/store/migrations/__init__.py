"""Alembic migrations, applied by Segue itself."""
