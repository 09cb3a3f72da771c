"""What changed at an ESP since the last look, a page at a time: read, remembered, and told to whom it concerns.

What one contact's state means is `inbound.observing`'s to say, where somebody is who is not there any more `whereabouts`'. Nothing
here writes to an ESP.

Each page's cursor is stored once all that follows from the page is: a pull that is killed goes on with the page after,
and the one that was at hand is read again. Cursors are the ESP's own, on its own clock, and overlap; what was seen
already changes nothing. Who left is told to all destinations for the whole page, seen before or not, because the look
before may have been killed in between; and so is who is mailed here after having left elsewhere.

A full look reads everyone and then asks for whoever is known and was not shown. It has a cursor of its own and the
moment at which it began, so that it too goes on where it was; what runs write meanwhile counts as seen.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

from ..connectors.base import Page
from ..core.consent import LEFT, MAILABLE
from ..core.errors import DestinationError, GuardrailError
from ..core.model import ContactState, RemoteContact
from ..mappings.projection import MappedField
from .delivery.apply import Progress
from .inbound.fanout import fan_out, overlooked
from .inbound.observing import observe
from .inbound.whereabouts import Whereabouts
from .planning.plan import SHARES_COUNT_FROM
from .report import Report
from .store.leases import Lease
from .store.pulled import PulledValue

if TYPE_CHECKING:
    from .jobs import Job

_LOG = structlog.get_logger(__name__)

_PULLED: Final = "pulled"
_FULL: Final = "pulled_in_full"
_FIELDS: Final = "pulled_fields"
_ENGAGEMENT: Final = "pulled_engagement"
_MAILINGS: Final = timedelta(days=90)  # so long after it was sent a mailing is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulling:
    """One job's pull, within its run."""

    job: "Job"
    lease: Lease
    report: Report
    progress: Progress

    def pull(self, *, full: bool, override: bool, seconds: float | None = None) -> None:
        """Read what changed since the last pull, or everyone; a full look also ends who is there no more.

        With `seconds` it reads nothing but changes, stops after so long, and says in the report if that was before their
        end. Raises GuardrailError, with nobody ended, when too many are gone and it is not overridden.
        """
        until = None if seconds is None else monotonic() + seconds
        self._read_new_fields()
        if full:
            self._everyone(override=override)
        else:
            self._changes(until)
        if self.job.config.engagement and seconds is None:
            self._engagement()

    def _changes(self, until: float | None = None) -> None:
        cursors = self.job.store.destinations
        for page in self._pages(cursors.cursor(self._name, _PULLED), until):
            cursors.set_cursor(self._name, _PULLED, page.cursor)

    def _pages(self, reached: str | None, until: float | None = None) -> Iterator[Page]:
        """Read and take page after page; each is given once all that follows from it is stored."""
        pages = self.job.connector.pull(reached or None, only=self.job.mapping.read_back)
        for number, page in enumerate(pages):
            if number and until is not None and monotonic() > until:
                self.report.unfinished = True
                return
            self._take(page)
            yield page

    def _read_new_fields(self) -> None:
        """Begin anew where the mapping reads fields that it did not read before: nobody need have changed since."""
        cursors, wanted = self.job.store.destinations, sorted(self.job.mapping.read_back)
        if not set(wanted) <= set(json.loads(cursors.cursor(self._name, _FIELDS) or "[]")):
            cursors.set_cursor(self._name, _PULLED, "")
        cursors.set_cursor(self._name, _FIELDS, json.dumps(wanted))

    def _everyone(self, *, override: bool) -> None:
        cursors = self.job.store.destinations
        begun, reached = self._begun_in_full()
        for page in self._pages(reached):
            cursors.set_cursor(self._name, _FULL, _written(begun, page.cursor))
        # Whoever came back to the list behind the reading of it was on neither part of it.
        self._changes()
        self._refuse_an_exodus(begun, override=override)
        for states in self.job.store.pulled.unseen(self._name, begun):
            addresses = self._whereabouts.addresses(list(states))
            found = self.job.connector.read(list(addresses.values()))
            there = [contact for contact in found if contact is not None]
            self._observe(there)
            still = {self.job.store.keys.address_key(contact.address) for contact in there}
            gone = {key: state for key, state in states.items() if key not in still}
            self._whereabouts.end(gone, self.job.clock())
            self.report.gone += len(gone)
            self.report.left += sum(state in MAILABLE for state in gone.values())
            self._tell([address for key, address in addresses.items() if key in gone])
            self.progress("asking for who was not shown", 1.0)
        cursors.set_cursor(self._name, _FULL, "")

    def _begun_in_full(self) -> tuple[datetime, str | None]:
        """Give when the full look began that is under way, and how far it came; a new one begins now."""
        if stored := self.job.store.destinations.cursor(self._name, _FULL):
            begun, reached = json.loads(stored)
            return datetime.fromisoformat(begun), reached
        begun = self.job.clock()
        self.job.store.destinations.set_cursor(self._name, _FULL, _written(begun, None))
        return begun, None

    def _refuse_an_exodus(self, begun: datetime, *, override: bool) -> None:
        unseen, known = self.job.store.pulled.count_unseen(self._name, begun, MAILABLE)
        if (
            override
            or known < SHARES_COUNT_FROM
            or unseen <= self.job.config.guardrails.max_shrink_share * known
        ):
            return
        raise GuardrailError(
            f"{unseen:,} of the {known:,} contacts that {self._name} could mail are not there any more: more than"
            f" max_shrink_share {self.job.config.guardrails.max_shrink_share:g}. Nobody was opted out for it. If they were deleted on"
            f" purpose, say so with `segue pull {self._name} --full --override-guardrails`."
        )

    def _engagement(self) -> None:
        """Read opens and clicks. Who left is known by now, and must not wait for an account that refuses its reports."""
        cursors = self.job.store.destinations
        since = self.job.clock() - _MAILINGS
        try:
            for page in self.job.connector.engagement(cursors.cursor(self._name, _ENGAGEMENT), since=since):
                self.report.engagement += self.job.store.pulled.put_engagement(self._name, page.found)
                cursors.set_cursor(self._name, _ENGAGEMENT, page.cursor)
                self.progress("reading opens and clicks", 0.0)
        except DestinationError as error:
            self.report.warnings.append(f"Opens and clicks were not all read: {error.message}")

    def _take(self, page: Page) -> None:
        pulled = self.job.store.pulled
        shown = {contact.name: contact for contact in page.contacts if contact.name}
        keys = {name: self.job.store.keys.address_key(contact.address) for name, contact in shown.items()}
        known = pulled.known_as(self._name, shown)
        new = {name: key for name, key in keys.items() if known.get(name) != key}
        moved = self._moved({known[name]: shown[name] for name in new if name in known})
        self._observe(page.contacts)
        for address_key, contact in moved.items():
            self._whereabouts.move(address_key, contact, self.job.clock())
        self._take_values(page.contacts)
        self._tell(
            [
                *(contact.address for contact in page.contacts if contact.state in LEFT),
                *(contact.address for contact in moved.values()),
                *overlooked(self.job.store, self._name, self.job.people, page.contacts),
            ]
        )
        pulled.name(self._name, new)
        self.report.moved += len(moved)
        self.report.pulled += len(page.contacts)
        self.progress("reading contacts", 0.0)

    def _observe(self, contacts: Sequence[RemoteContact]) -> None:
        if contacts:
            self.report.left += observe(
                self.job.store,
                self._name,
                contacts,
                people=self.job.people,
                now=self.job.clock(),
                run_id=self.report.run_id,
            )

    def _tell(self, left: Sequence[str]) -> None:
        urged = fan_out(self.job.store, list(self.job.project.destinations), self.job.people, left)
        if urged:
            _LOG.info("opt_outs_urged", destination=self._name, urged=dict(urged))

    def _moved(self, elsewhere: Mapping[int, RemoteContact]) -> Mapping[int, RemoteContact]:
        """Leave those who were seen at an address, by the key of that, where nobody is now.

        A move of our own left nothing behind there, or somebody else is there; or nobody has heard of it yet.
        """
        keys, states = self.job.store.keys, self.job.store.destinations.states(self._name, elsewhere)
        new = [keys.address_key(contact.address) for contact in elsewhere.values()]
        ours = {
            keys.address_key(row.change().previous_address or row.address): row.address_key
            for row in self.job.store.outbox.arrivals_at(self._name, new)
        }
        left_behind = {
            key: contact
            for key, contact in elsewhere.items()
            if key in states and ours.get(key) != keys.address_key(contact.address)
        }
        addresses = self._whereabouts.addresses(list(left_behind))
        read = self.job.connector.read(list(addresses.values()))
        found = dict(zip(addresses, read, strict=True))
        return {key: contact for key, contact in left_behind.items() if found.get(key) is None}

    def _take_values(self, contacts: Sequence[RemoteContact]) -> None:
        """Store the values that others write, and of our own fields those that they changed."""
        mapping, pulled = self.job.mapping, self.job.store.pulled
        if not mapping.read_back:
            return
        shown = {self.job.store.keys.address_key(contact.address): contact for contact in contacts}
        stored = pulled.values(self._name, shown)
        now = self.job.clock()
        found: dict[tuple[int, str], PulledValue] = {}
        for field in mapping.pulled:
            for key, contact in shown.items():
                value, before = contact.fields.get(field.tag), stored.get((key, field.tag))
                if value != (before.value if before else None):
                    found[key, field.tag] = PulledValue(value=value, changed_at=now)
        restated: dict[int, ContactState] = {}
        if both := [field for field in mapping.fields if field.conflict is not None]:
            restated = self._theirs(both, shown, stored, found)
        self.report.values += len(found)
        # Stored before it counts as confirmed: killed in between, it is found again.
        if found:
            pulled.put_values(self._name, found)
        if restated:
            self.job.store.settlements.restate(self.lease, restated)

    def _theirs(
        self,
        fields: Sequence[MappedField],
        shown: Mapping[int, RemoteContact],
        stored: Mapping[tuple[int, str], PulledValue],
        found: dict[tuple[int, str], PulledValue],
    ) -> dict[int, ContactState]:
        """Add what others changed of our fields to `found`; give what counts as confirmed now, by contact key.

        A value that we confirmed is an echo of our own write. `over` stays what was ours when they began to change it.
        Whoever has a write in doubt is written in full by the next plan, and looked at after.
        """
        now = self.job.clock()
        ended: dict[str, list[int]] = {}
        restated: dict[int, ContactState] = {}
        keys = self.job.store.keys
        confirmed = {
            keys.address_key(state.address): (contact_key, state)
            for contact_key, state in self._whereabouts.confirmed(list(shown)).items()
        }
        for key, contact in shown.items():
            contact_key, held = confirmed.get(key, (None, ContactState(address=contact.address)))
            if held.doubt is not None:
                continue
            ours = self.job.connector.shown(held.fields)
            values = dict(held.fields)
            for field in fields:
                tag = field.spec.tag
                value, before = contact.fields.get(tag), stored.get((key, tag))
                if value == ours.get(tag):
                    if before is not None and before.value != value:
                        ended.setdefault(tag, []).append(key)  # ours was newer, and is there now
                    continue
                over = before.over if before and before.value == ours.get(tag) else held.fields.get(tag)
                if field.conflict != "ours":
                    found[key, tag] = PulledValue(value=value, over=over, changed_at=now)
                values |= {tag: value or ""}
            if contact_key is not None and values != held.fields:
                kept = {tag: value for tag, value in values.items() if value}
                restated[contact_key] = replace(held, fields=kept)
        for tag, address_keys in ended.items():
            self.job.store.pulled.drop_values(self._name, tag, address_keys)
        return restated

    @property
    def _name(self) -> str:
        return self.lease.destination

    @property
    def _whereabouts(self) -> Whereabouts:
        return Whereabouts(
            store=self.job.store, lease=self.lease, people=self.job.people, run_id=self.report.run_id
        )


def _written(begun: datetime, reached: str | None) -> str:
    return json.dumps([begun.isoformat(), reached])
