"""Mistakes that others have made, put into Segue one at a time: the machine that finds nothing must find each of these.

Each is what a hurried hand would write, at the place where it would stand; nothing here knows what the machine draws.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from segue.connectors.mailchimp import connector, members, sdk
from segue.connectors.mailchimp.archive import Archive
from segue.connectors.mailchimp.connector import Mailchimp
from segue.connectors.mailchimp.members import Members
from segue.connectors.mailchimp.payload import existing_member, merge_fields, remote_contact
from segue.connectors.transport import Transport
from segue.core.consent import ConsentRecord, ConsentState, Regime, effective
from segue.core.model import Change, Grant, Operation, Outcome, OutcomeStatus, RemoteContact, WithheldReason
from segue.sync import gate, jobs
from segue.sync.delivery import courier
from segue.sync.delivery.courier import Courier
from segue.sync.delivery.doubt import settle_doubts
from segue.sync.delivery.meaning import Carried
from segue.sync.gate import Standing, admit
from segue.sync.inbound import observing

Patch = pytest.MonkeyPatch


def default_subscribed_on_create(patch: Patch) -> None:
    """Who never said anything is made as subscribed."""

    def agreed(known: ConsentRecord, regime: Regime = Regime.OPT_IN) -> ConsentState:
        state = effective(known, regime)
        return ConsentState.SUBSCRIBED if state is ConsentState.UNKNOWN else state

    def admitted(change: Change, standing: Standing, *, double_opt_in: bool) -> Change | Outcome:
        answer = admit(change, standing, double_opt_in=double_opt_in)
        if change.operation is Operation.CREATE and _is_withheld(answer, WithheldReason.NO_GRANT):
            return _as_subscribed(change)
        return answer

    patch.setattr(gate, "effective", agreed)
    patch.setattr(courier, "admit", admitted)


def status_sent_on_update(patch: Patch) -> None:
    """Every update says subscribed once more, for good measure."""

    def stated(change: Change, values: Mapping[str, Any]) -> dict[str, Any]:
        return existing_member(change, values) | {"status": "subscribed"}

    patch.setattr(connector, "existing_member", stated)


def archived_treated_as_missing(patch: Patch) -> None:
    """Members are listed as Mailchimp lists them unasked: without the archived."""
    everyone, find = Members.everyone, Members.find

    def listed(self: Members, *arguments: Any) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        return ((name, page) for name, page in everyone(self, *arguments) if name == "listed")

    def found(self: Members, address: str) -> RemoteContact | None:
        contact = find(self, address)
        return None if contact is not None and contact.status == "archived" else contact

    patch.setattr(Members, "everyone", listed)
    patch.setattr(Members, "find", found)
    patch.setattr(Archive, "among", lambda *_: {})


def address_change_re_subscribing(patch: Patch) -> None:
    """Who has a new address is sent with it like anybody new: a second, fresh member."""

    def readdressed(self: Mailchimp, change: Change) -> Outcome:
        item = existing_member(change, merge_fields(change.fields, self._fields.known()))
        body = {"members": [item | {"status": "subscribed"}], "update_existing": True}
        self._lists.batch_list_members(self._audience, body)
        return Outcome(status=OutcomeStatus.APPLIED)

    patch.setattr(Mailchimp, "_readdress", readdressed)


def lost_create_resent_blindly(patch: Patch) -> None:
    """A create without an answer is sent again as it was, by the same run and by the next."""
    gated = Courier._gate

    def waved_through(self: Courier, rows: Sequence[Any]) -> Any:
        passed, withheld = gated(self, rows)
        again = [row for row, _ in withheld if row.attempts and row.operation is Operation.CREATE]
        passed += [Carried(row=row, said=row.said(), change=_as_subscribed(row.change())) for row in again]
        return passed, [(row, outcome) for row, outcome in withheld if row not in again]

    def resent(connected: Any, store: Any, lease: Any, **more: Any) -> int:
        rows = [row for row in store.outbox.in_doubt(lease, 500) if row.operation is Operation.CREATE]
        if rows:
            connected.write(Operation.CREATE, [_as_subscribed(row.change()) for row in rows])
        return settle_doubts(connected, store, lease, **more)

    patch.setattr(Courier, "_gate", waved_through)
    patch.setattr(Courier, "_met", lambda *_: {})
    patch.setattr(jobs, "settle_doubts", resent)


def transport_retry_of_old_bytes(patch: Patch) -> None:
    """The transport tries what can raise consent as often as everything else."""
    endpoints = sdk.endpoints

    def patient(transport: Transport) -> sdk.Endpoints:
        made = endpoints(transport)
        return replace(made, lists_once=made.lists)

    patch.setattr(sdk, "endpoints", patient)


def polled_state_taken_as_evidence(patch: Patch) -> None:
    """Who is seen as subscribed has opted in when they last changed."""

    def shown(member: Mapping[str, Any]) -> RemoteContact:
        contact = remote_contact(member)
        if contact.state is not ConsentState.SUBSCRIBED:
            return contact
        return replace(contact, opted_in_at=contact.changed_at)

    patch.setattr(members, "remote_contact", shown)


def unmapped_opt_out_ignored(patch: Patch) -> None:
    """A stop of a topic that nobody mapped is a stop of that topic."""
    told = observing._CONSENTS
    plain = told.replace("CASE WHEN stops THEN 'marketing' ELSE purpose END AS purpose", "purpose AS purpose")
    assert plain != told
    patch.setattr(observing, "_CONSENTS", plain)


BUGS: Mapping[str, Callable[[Patch], None]] = {
    bug.__name__: bug
    for bug in (
        default_subscribed_on_create,
        status_sent_on_update,
        archived_treated_as_missing,
        address_change_re_subscribing,
        lost_create_resent_blindly,
        transport_retry_of_old_bytes,
        polled_state_taken_as_evidence,
        unmapped_opt_out_ignored,
    )
}


def _is_withheld(answer: Change | Outcome, reason: WithheldReason) -> bool:
    return isinstance(answer, Outcome) and answer.code == reason.value


def _as_subscribed(change: Change) -> Change:
    grant = Grant(granted_at=datetime.fromisoformat("2026-01-01T00:00:00+00:00"), source="shop", evidence={})
    return replace(change, consent=ConsentState.SUBSCRIBED, grant=grant)
