"""Gives a build what it needs to keep out who was erased.

The store is asked once the build has begun, and not before: whoever is erased a moment earlier is known by then.
"""

from functools import partial
from pathlib import Path

import duckdb
from sqlalchemy.engine import make_url

from ...core.config import Project
from ...core.data.erased import Erased
from ..store.store import Store


def erased_by(project: Project) -> Erased:
    """Give what asks the project's store who was erased. Where there is no store yet, nobody was."""
    return partial(_install, project)


def _install(project: Project, connection: duckdb.DuckDBPyConnection) -> bool:
    if is_new(project):
        return False
    with Store.of(project) as store:
        return store.tombstones.install(connection)


def is_new(project: Project) -> bool:
    """Whether the project's store is a file that is still to be made."""
    url = make_url(project.store_url())
    return url.drivername == "sqlite" and not (url.database and Path(url.database).exists())
