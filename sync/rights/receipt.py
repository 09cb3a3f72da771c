"""The receipt of an erasure, for the person and for the file: what was done where, what was answered, what remains.

It is made from what the store keeps of an erasure, which names nobody.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from ..store.erasures import Erasure

REMAINS: Final = (
    "Keyed hashes of the contact id and of each address, by which the person is kept out if the data names them again.",
    "Under keyed hashes: that they must not be mailed, and the acts of consent, without their evidence.",
    "Under keyed hashes: the rows of the audit that say what was done, until its retention ends.",
    "Backups from before, until they expire: after a restore, `segue forget` is to be done once more.",
    "The shop's own data, which Segue reads and does not change.",
    "In a store on PostgreSQL: pages of removed rows, until the database's next VACUUM.",
)

_HERE: Final = "here"


def as_json(erasure: Erasure) -> dict[str, Any]:
    """Give the receipt for machines."""
    return {
        "erasure_id": erasure.erasure_id,
        "requested_at": erasure.requested_at,
        "finished_at": erasure.finished_at,
        **erasure.receipt,
        "remains": list(REMAINS),
    }


def as_text(erasure: Erasure, project: str) -> str:
    """Give the receipt as a page of text."""
    receipt = erasure.receipt
    finished = erasure.finished_at
    lines = [
        f"Receipt of the erasure {erasure.erasure_id}",
        f"Project: {project}",
        f"Requested: {_time(erasure.requested_at)}, by {receipt['requested_by']}",
        f"Finished: {_time(finished) if finished else 'no, a part of it waits'}",
        "",
        f"{receipt['tombstones']} keyed hashes were made by which the person is kept out, until `segue consent release --erased`.",
    ]
    for name, step in receipt["steps"].items():
        lines += ["", *_step(name, step)]
    lines += ["", "What remains:", *(f"- {each}" for each in REMAINS)]
    return "\n".join(lines)


def _step(name: str, step: Mapping[str, Any]) -> Iterator[str]:
    title = "In Segue's own files" if name == _HERE else f"At {name}"
    if "waits_for" in step:
        yield f"{title}: not done yet. {step['waits_for']}"
        return
    if "done_at" not in step:
        yield f"{title}: done, and once more when the other parts are."
        return
    yield f"{title}, {_time(datetime.fromisoformat(step['done_at']))}:"
    for number, answer in enumerate(step.get("answers", ()), 1):
        yield f"- address {number}: {_answer(answer)}"
    if step.get("by_hand"):
        yield "- the account is not in segue.yml any more: erase the person there by hand"
    for table, count in step.get("rows", {}).items():
        yield f"- {count:,} rows of {table} removed"
    for table, count in step.get("snapshot_rows", {}).items():
        yield f"- {count:,} rows of {table} taken out of the snapshot"
    for key, words in (
        ("snapshots_dropped", "older snapshots dropped"),
        ("plan_rows", "rows taken out of plans"),
        ("messages", "webhooks removed"),
        ("evidence", "pieces of evidence removed from the consent ledger"),
    ):
        if step.get(key):
            yield f"- {step[key]:,} {words}"


def _answer(answer: Mapping[str, Any]) -> str:
    if not answer["was_there"]:
        return "nobody was there"
    return f"erased (answer {answer['answer']}), and read back as gone"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
