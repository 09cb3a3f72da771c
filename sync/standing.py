"""How the destinations of a project stand, for `segue status` and for the API: asks the store, and no ESP."""

from typing import Any

from ..core.config import Project
from .store.store import Store


def standing(project: Project, store: Store) -> list[dict[str, Any]]:
    """Give a row for each destination. `paused` and `inbox` are None where nothing pauses it, or no webhook comes."""
    rows: list[dict[str, Any]] = []
    for name, config in project.destinations.items():
        # What sends little or nothing does not hide how the last real run ended.
        last = store.runs.last_whole(name) or next(iter(store.runs.newest(1, name)), None)
        rows.append(
            {
                "destination": name,
                "connector": config.connector,
                "confirmed_contacts": store.baselines.count(name),
                "waiting_changes": sum(store.outbox.pending_counts(name).values()),
                "last_run": last.started_at if last else None,
                "last_kind": last.kind if last else None,
                "last_status": last.status if last else None,
                "last_exit_code": last.exit_code if last else None,
                "last_error": (last.report.get("error") or "") if last else "",
                "paused": store.pauses.of(name),
                "inbox": store.inbox.counts(name) if config.webhooks else None,
            }
        )
    return rows
