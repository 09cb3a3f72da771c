"""Holds what is kept to the limits of `retention`: tables of the store, files of plans, snapshots, the audit.

Nothing that still counts goes: not the current snapshot, the newest plan and run, what was confirmed, what people said.
Safe to schedule, to kill and to repeat.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ...core.config import Project
from ...core.forgetting import drop_before
from ..store.purging import TABLES
from ..store.store import Store

_FILES: Final = ("steps", "withheld_contacts")


def purge(project: Project, store: Store, *, now: datetime, dry_run: bool) -> dict[str, int]:
    """Remove what was kept long enough and give how much, by setting; with `dry_run` say it and remove nothing.

    The names of webhooks that are done go after a week of their own. Of the audit a dry run says nothing.
    """
    limits = project.retention
    done = {"snapshots": drop_before(project.state_folder, now - limits.snapshots, dry_run=dry_run)}
    for name in TABLES:
        before = now - getattr(limits, name)
        done[name] = store.purging.count(name, before) if dry_run else store.purging.remove(name, before)
    if not dry_run:
        done["plan_files"] = _drop_unnamed(store, project.state_folder / "plans", now - limits.plans)
        done["webhooks"] = store.inbox.forget()
        done["audit"] = store.audit.purge(now - limits.audit)
    return done


def _drop_unnamed(store: Store, folder: Path, before: datetime) -> int:
    """Remove the files of plans that are gone; younger ones may be of a plan that is just made."""
    named = {manifest.get(name) for _, manifest in store.plans.manifests() for name in _FILES}
    gone = [
        path
        for path in folder.glob("*/*-*.parquet")
        if str(path) not in named and datetime.fromtimestamp(path.stat().st_mtime, UTC) < before
    ]
    for path in gone:
        path.unlink(missing_ok=True)
    return len(gone)
