"""Erases a person: at every destination by its own call, here in all tables and files, and out of every build by tombstones.

Lives here: the order of the steps, and what of them is done. Must not: ask for a person's word, or print.

The request is stored first, with the tombstones and the hold in the ledger; from then on the person cannot come back and
is not mailed, whatever else fails. Each step is done under the leases of the destinations that it touches, is stored
when it is done, and may be done twice: killed anywhere, the rest is done by `resume`. What stands in the way of a step,
another run or an account that does not answer, keeps no other step from being done.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from functools import partial
from time import sleep
from typing import Any, Final
from urllib.parse import unquote_plus

import structlog

from ...connectors.base import Connector
from ...connectors.registry import connector_class
from ...connectors.webhooks import MalformedError
from ...core import forgetting
from ...core.config import Project
from ...core.consent import ConsentAct, ConsentEntry
from ...core.errors import DestinationError, SegueError, StoreError
from ...core.model import Operation
from ...core.snapshot import history
from ..ledger.desk import normal
from ..opening import open_connector
from ..store.consents import LedgerEntry
from ..store.erasures import Erasure, Subject
from ..store.store import Store
from . import plans

ERASED: Final = "erased"
"""The source of the ledger's line that keeps an erased person from being mailed."""

_HERE: Final = "here"
_PATIENCE: Final = 60.0  # seconds to wait for an ESP that erases some time after it was asked
_ADDRESS: Final = re.compile(r"[^\s@<>\"'&=,;:]+@[^\s@<>\"'&=,;:]+")
_LOG = structlog.get_logger(__name__)


def outlook(project: Project, store: Store, subject: Subject) -> dict[str, Any]:
    """Say what an erasure would remove, in numbers, and change nothing."""
    rows = store.erasures.count_rows(subject)
    files: dict[str, int] = {}
    for snapshot in history(project.state_folder):
        for table, count in forgetting.counts_of(snapshot, subject.contact_ids, subject.addresses).items():
            files[table] = max(files.get(table, 0), count)
    return {
        "contacts": len(subject.contact_ids) + len(subject.former),
        "addresses": len(subject.addresses),
        "destinations": {
            name: {"rows": rows.get(name, {}), "note": connector_class(config.connector).erasing}
            for name, config in project.destinations.items()
        },
        "not_in_segue_yml": sorted(rows.keys() - project.destinations.keys()),
        "snapshot_rows": files,
        "plan_rows": plans.count(store, subject),
        "messages": len(_messages(project, store, subject)[0]),
        "erased_before": store.tombstones.erased_at(subject.contact_ids, subject.addresses),
    }


def erase(project: Project, store: Store, subject: Subject, *, who: str) -> Erasure:
    """Erase a person, as far as it can be done now. The erasure is finished, or says what stands in its way."""
    now = store.erasures.now()
    _hold(store, subject, now)  # first: killed in between, nobody mails them all the same
    return resume(project, store, store.erasures.request(subject, who=who, now=now))


def resume(project: Project, store: Store, erasure: Erasure) -> Erasure:
    """Do what is left of an erasure."""
    subject = erasure.subject
    if subject is None:
        return erasure
    _hold(store, subject, erasure.requested_at)
    steps: dict[str, dict[str, Any]] = dict(erasure.receipt["steps"])
    receipt: dict[str, Any] = {**erasure.receipt, "steps": steps}
    known = store.erasures.count_rows(subject).keys() | steps.keys() - {_HERE}
    others = sorted(known - project.destinations.keys())  # also one that was removed while its part waited
    todo: list[tuple[str, Callable[[], Mapping[str, Any]]]] = [
        *((name, partial(_at_destination, project, store, subject, name)) for name in project.destinations),
        *((name, partial(_at_former_destination, store, subject, name)) for name in others),
        (_HERE, partial(_here, project, store, subject)),
    ]
    for name, step in todo:
        if "done_at" in steps.get(name, {}):
            continue
        try:
            done = step()
        except SegueError as error:
            steps[name] = {"waits_for": error.message, "exit_code": error.exit_code}
        else:
            steps[name] = _done(steps, name, done, [other for other, _ in todo], store.erasures.now())
        store.erasures.note(erasure.erasure_id, receipt)
        _LOG.info("erasure_step", erasure=erasure.erasure_id, step=name, done="done_at" in steps[name])
    if all("done_at" in step for step in steps.values()):
        finished = store.erasures.finish(erasure, receipt)
        store.erasures.forget_log()
        return finished
    return store.erasures.get(erasure.erasure_id) or erasure


def _done(
    steps: Mapping[str, Mapping[str, Any]],
    name: str,
    done: Mapping[str, Any],
    names: Sequence[str],
    now: datetime,
) -> dict[str, Any]:
    """Say what was done. What is here is done again as long as another part waits: a run may name them in its plan."""
    so_far = _added(steps.get(name, {}), done)
    if name == _HERE and any("done_at" not in steps.get(other, {}) for other in names if other != _HERE):
        return so_far
    return {"done_at": now.isoformat(), **so_far}


def _added(before: Mapping[str, Any], done: Mapping[str, Any]) -> dict[str, Any]:
    """Count together what was done in several goes."""
    total = dict(done)
    for key, value in done.items():
        if isinstance(value, Mapping):
            total[key] = {**before.get(key, {}), **_added(before.get(key, {}), value)}
        elif type(value) is int:
            total[key] = value + before.get(key, 0)
    return total


def resume_all(project: Project, store: Store) -> list[Erasure]:
    """Do what is left of every erasure."""
    return [resume(project, store, each) for each in store.erasures.unfinished()]


def _hold(store: Store, subject: Subject, at: datetime) -> None:
    """Have the ledger say that nobody mails them, by an act that only a person's word ends."""
    entry = ConsentEntry(act=ConsentAct.SUPPRESSION, occurred_at=at, source=ERASED)
    store.consents.append(
        [
            *(
                LedgerEntry(subject_key=key, subject_kind="contact", entry=entry)
                for key in subject.contact_keys(store.keys)
            ),
            *(
                LedgerEntry(subject_key=key, subject_kind="address", entry=entry)
                for key in subject.address_keys(store.keys)
            ),
        ]
    )


def _at_destination(project: Project, store: Store, subject: Subject, name: str) -> Mapping[str, Any]:
    """Erase at an account, prove it, then remove what we know of it. Raises what stands in the way."""
    connector = open_connector(project, name)
    connector.transport.share(store.turns)
    try:
        with store.leases.hold(name) as lease:
            if _may_arrive(connector, store, subject, name):
                raise DestinationError(
                    f"{name}: the ESP accepted to make this contact and does not show it yet. Let `segue run` ask after"
                    " it, then `segue forget --resume`."
                )
            answers = list(_asked(connector, subject))
            if any(not answer["is_gone"] for answer in answers):
                raise DestinationError(
                    f"{name}: the contact was still there when it was read back. Try again later, or erase it there"
                    " by hand; then `segue forget --resume`."
                )
            return {"answers": answers, "rows": store.erasures.remove_rows(lease, subject)}
    finally:
        connector.transport.close()


def _may_arrive(connector: Connector, store: Store, subject: Subject, name: str) -> bool:
    """Whether an ESP that works things off later may still make somebody at an address where nobody is yet."""
    if connector.capabilities.jobs is None:
        return False
    found = zip(subject.addresses, connector.read(subject.addresses), strict=True)
    empty = [store.keys.address_key(address) for address, contact in found if contact is None]
    arrivals = store.outbox.arrivals_at(name, empty) if empty else []
    return any(row.operation is Operation.CREATE for row in arrivals)


def _asked(connector: Connector, subject: Subject) -> Iterator[dict[str, Any]]:
    for address in subject.addresses:
        said = connector.erase(address)
        is_gone = said.is_gone or _is_gone_later(connector, address)
        yield {"was_there": said.was_there, "answer": said.answer, "is_gone": is_gone}


def _is_gone_later(connector: Connector, address: str) -> bool:
    """Wait a while at an ESP that works things off later, and say whether the contact is gone."""
    jobs = connector.capabilities.jobs
    for wait in jobs.waits(_PATIENCE) if jobs else ():
        sleep(wait)
        if connector.read([address]) == [None]:
            return True
    return False


def _at_former_destination(store: Store, subject: Subject, name: str) -> Mapping[str, Any]:
    with store.leases.hold(name) as lease:
        return {"by_hand": True, "rows": store.erasures.remove_rows(lease, subject)}


def _here(project: Project, store: Store, subject: Subject) -> Mapping[str, Any]:
    """Remove what files and the whole store hold, while nobody runs, plans or builds. Raises what stands in the way."""
    with ExitStack() as held:
        for name in project.destinations:
            held.enter_context(store.leases.hold(name))
        messages, shared = _messages(project, store, subject)
        store.inbox.finish(messages)
        plan_rows = plans.forget(store, subject, project.state_folder / "plans")
        snapshots = forgetting.forget(project.state_folder, subject.contact_ids, subject.addresses)
        evidence = store.erasures.remove_evidence(subject)
        if shared:
            raise StoreError(
                f"{shared} webhooks that wait name other people too: they go once they are worked off. Let"
                " `segue serve` work them off, or look at them with `segue webhooks inbox`; then `segue forget --resume`."
            )
    return {
        "messages": len(messages),
        "plan_rows": plan_rows,
        "snapshot_rows": dict(snapshots.rows),
        "snapshots_dropped": snapshots.dropped,
        "evidence": evidence,
    }


def messages_of(project: Project, store: Store, subject: Subject) -> Iterator[dict[str, str]]:
    """Give the webhooks that wait and are about a person, as they came."""
    for _, destination, body, alone in _about(project, store, subject):
        text = body.decode(errors="replace") if alone else "not shown: it is about other people too"
        yield {"destination": destination, "body": text}


def _messages(project: Project, store: Store, subject: Subject) -> tuple[list[int], int]:
    """Give the webhooks that are about this person alone, and how many are about others as well."""
    found = [(id_, alone) for id_, _, _, alone in _about(project, store, subject)]
    return [id_ for id_, alone in found if alone], sum(not alone for _, alone in found)


def _about(project: Project, store: Store, subject: Subject) -> Iterator[tuple[int, str, bytes, bool]]:
    """Give (id, destination, body, about nobody else) of the webhooks in which a person is named, wherever in them."""
    theirs = set(subject.addresses)
    for id_, destination, content_type, body in store.erasures.bodies():
        people = list(_people(project, destination, content_type, body))
        named = {normal(each) for each in _ADDRESS.findall(unquote_plus(body.decode(errors="replace")))}
        if not theirs.isdisjoint(named.union(*people)):
            yield id_, destination, body, all(not theirs.isdisjoint(each) for each in people)


def _people(project: Project, destination: str, content_type: str, body: bytes) -> Iterator[set[str]]:
    """Give the addresses of each contact that a message has something to say of; none of one that nobody can read."""
    config = project.destinations.get(destination)
    webhooks = connector_class(config.connector).webhooks if config else None
    if webhooks is not None:
        with suppress(MalformedError):
            for event in webhooks.read(body, content_type):
                yield {normal(each) for each in (event.address, event.previous_address) if each}
