"""Brings a store to the newest schema with Alembic, inside one transaction that the caller opened.

The revisions themselves are in `migrations/versions`.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script.revision import ResolutionError
from alembic.util import CommandError

from ...core.errors import StoreError

FOLDER = Path(__file__).parent / "migrations"


def upgrade(connection: sa.Connection, label: str) -> None:
    """Apply every revision that the store lacks.

    Raises StoreError when the store has one that this code does not know.
    """
    if connection.dialect.name == "postgresql":
        # Two processes that meet an empty database: the second waits here and finds the tables made.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext("segue.store"))))
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        if not isinstance(error.__cause__, ResolutionError):
            raise
        present = MigrationContext.configure(connection).get_current_heads()
        raise StoreError(
            f"{label}: it was written by a newer Segue (schema {', '.join(present)}). "
            "Update Segue, or restore the store's backup from before the update."
        ) from None
