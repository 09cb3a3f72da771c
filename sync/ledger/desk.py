"""The consent ledger for people: all that it holds of somebody and why it says what it says, and acts at the desk.

Whether somebody may be mailed is `core.consent`'s to say; here it is put into words. Files go in and out in
`ledger.files`. An act at the desk ends in the ledger as any other does, and a withdrawal in all outboxes at once.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import duckdb
import pyarrow as pa
from email_validator import EmailNotValidError, validate_email

from ...core.config import Project
from ...core.consent import (
    MAILABLE,
    NOTHING_RECORDED,
    ConsentAct,
    ConsentEntry,
    ConsentRecord,
    ConsentState,
    Regime,
    Verdict,
    merge_all,
    verdict,
)
from ...core.errors import ConfigError, DataError
from ...core.model import ContactState
from ...core.scratch import scratch
from ...core.snapshot import Snapshot
from ..gate import of_former
from ..inbound.fanout import fan_out
from ..inbound.observing import People, take_over
from ..store.consents import LedgerEntry
from ..store.keys import ContactKeys, SubjectKind
from ..store.store import Store

DESK: Final = "desk"
"""The source of what a person recorded by a command."""

CHANNEL: Final = "email"
PURPOSE: Final = "marketing"

_CONSENTS: Final = pa.schema(
    [
        ("contact_id", pa.string()),
        ("email", pa.string()),
        ("channel", pa.string()),
        ("purpose", pa.string()),
        ("act", pa.string()),
        ("occurred_at", pa.timestamp("us", "UTC")),
        ("source", pa.string()),
        ("evidence", pa.string()),
    ]
)


_STOPS: Final = frozenset({ConsentAct.WITHDRAWAL, ConsentAct.SUPPRESSION})


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody, as far as data and store know them. `contacts` are those of the data by id; `addresses` are by key.

    `here` is the address that counts, the data's or the one asked for; the others are where destinations have them,
    and those of whoever else was found. `named` is what was asked for, as it was typed.
    """

    named: str
    contacts: Mapping[str, int]
    former: frozenset[int]  # contacts that the data has no longer
    here: int | None
    addresses: Mapping[int, str]
    country: str | None

    @property
    def subjects(self) -> list[int]:
        """Every key that the ledger may know them by."""
        return [*self.contacts.values(), *self.former, *self.addresses]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One entry of the ledger. `decides` says that the state follows from it; `counts` that it is about e-mail marketing."""

    act: ConsentAct
    of: SubjectKind
    occurred_at: datetime
    channel: str
    purpose: str
    source: str
    evidence: Mapping[str, str]
    recorded_at: datetime | None
    recorded_by: str
    counts: bool
    decides: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AtDestination:
    """What a destination shows: None where it shows nothing. `confirmed` says that something of ours is there."""

    state: ConsentState | None
    confirmed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentView:
    """All that is known of somebody's consent, and why it is read as it is."""

    contacts: tuple[str, ...]
    country: str | None
    regime: Regime
    state: ConsentState
    why: str
    entries: tuple[Line, ...]
    destinations: Mapping[str, AtDestination]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What came of an act at the desk: how many lines are new, and opt-outs put into outboxes by destination."""

    new: int
    opt_outs: Mapping[str, int]
    state: ConsentState
    why: str


def find(project: Project, store: Store, snapshot: Snapshot | None, who: str) -> Person:
    """Find somebody by contact id or address. Raises DataError for an id that neither data nor ledger knows."""
    who = who.strip()
    contacts: dict[str, int] = {}
    asked: str | None = normal(who) if "@" in who else None
    country: set[str | None] = set()
    typed = {store.keys.address_key(asked): asked} if asked else {}
    rows = _profiles(snapshot, "p.contact_id = $1 OR p.email = $2", who, asked or who)
    former: set[int] = set()
    # An address of nobody in the data is perhaps of whom we wrote there, or who moved there by themselves.
    if not rows and typed:
        for destination in project.destinations:
            former |= set(store.destinations.written_for(destination, typed).values())
        known = (
            {each: key for key, each in contact_ids(snapshot, store.keys, former).items()} if snapshot else {}
        )
        rows = _profiles(snapshot, "list_contains($1, p.contact_id)", list(known)) if known else []
        former -= set(known.values())
    elif not rows:
        former = {store.keys.contact_key(who)}
    for row in rows:
        contacts[row["contact_id"]] = store.keys.contact_key(row["contact_id"])
        country.add(row["country"])
    emails = [row["email"] for row in rows if row["email"]]
    theirs = asked if asked in emails or not emails else emails[0]
    here = store.keys.address_key(theirs) if theirs else None
    addresses = typed | {store.keys.address_key(email): email for email in emails}
    for destination in project.destinations:
        for text in store.baselines.payloads(destination, [*contacts.values(), *former]).values():
            address = ContactState.parse(text).address
            addresses[store.keys.address_key(address)] = address
    found = Person(
        named=who,
        contacts=contacts,
        former=frozenset(former),
        here=here,
        addresses=addresses,
        country=country.pop() if len(country) == 1 else None,
    )
    if not contacts and here is None and not addresses and not store.consents.history(found.subjects):
        raise DataError(
            "Neither the current snapshot nor the ledger knows this contact id. Is it written as the shop writes it?"
            " An e-mail address is found whether or not anybody has it."
        )
    return found


def contact_ids(snapshot: Snapshot, keys: ContactKeys, contact_keys: Collection[int]) -> dict[int, str]:
    """Give the contact ids behind a few contact keys, as far as the current snapshot has them."""
    if not contact_keys:
        return {}
    with scratch() as con:
        keys.install(con)
        rows = con.execute(
            "SELECT contact_key(contact_id) AS key, contact_id"
            f" FROM read_parquet('{snapshot.table('profiles')}') WHERE key IN (SELECT unnest(?))",
            [list(contact_keys)],
        ).fetchall()
    return dict(rows)


def view(project: Project, store: Store, person: Person) -> ConsentView:
    """Gather what is known of somebody's consent."""
    regime = project.consent.regime_of(person.country)
    history = store.consents.history(person.subjects)
    decided = verdict(_record(store, person), regime)
    return ConsentView(
        contacts=tuple(person.contacts),
        country=person.country,
        regime=regime,
        state=decided.state,
        why=in_words(decided, regime, person.country, history),
        entries=tuple(_line(each, decided) for each in history),
        destinations={name: _at(store, name, person) for name in project.destinations},
    )


def record_act(  # noqa: PLR0913  # what, of whom, when, how proved, by whom
    project: Project,
    store: Store,
    snapshot: Snapshot | None,
    person: Person,
    act: ConsentAct,
    *,
    evidence: Mapping[str, str],
    at: datetime,
    by: str,
    now: datetime,
) -> Recorded:
    """Record what somebody said at the desk, and have who left opted out everywhere. Raises as `refuse_act` does."""
    refuse_act(act, evidence=evidence, at=at, now=now)
    proof = {**evidence, "recorded_by": by}
    here = person.addresses.get(person.here) if person.here is not None else None
    # Whoever stops, stops wherever they are known; whoever agrees does so for the address that they have.
    addresses = [*person.addresses.values()] if act in _STOPS else [here]
    row = {
        "channel": CHANNEL,
        "purpose": PURPOSE,
        "act": act.value,
        "occurred_at": at,
        "source": DESK,
        "evidence": json.dumps(proof, ensure_ascii=False, sort_keys=True),
    }
    rows = [
        {"contact_id": contact_id, "email": address, **row}
        for contact_id in person.contacts or [None]
        for address in addresses or [None]
    ]
    run_id = f"{DESK}: {by}"
    with scratch() as con:
        install(con, store, snapshot)
        con.register("consents", pa.Table.from_pylist(rows, schema=_CONSENTS))
        new = take_over(store, con, now=now, run_id=run_id)
    # Of who was erased it is kept that they left, and not what proves it.
    erased_at = store.tombstones.erased_at([person.named, *person.contacts], person.addresses.values())
    entry = ConsentEntry(act=act, occurred_at=at, source=DESK, evidence={} if erased_at else proof)
    new += store.consents.append(
        [LedgerEntry(subject_key=key, subject_kind="contact", entry=entry) for key in person.former],
        run_id=run_id,
    )
    opt_outs: Mapping[str, int] = {}
    if act in _STOPS:
        people = People(snapshot, store)
        opt_outs = fan_out(store, project.destinations, people, person.addresses.values())
    seen = view(project, store, person)
    return Recorded(new=new, opt_outs=opt_outs, state=seen.state, why=seen.why)


def refuse_act(act: ConsentAct, *, evidence: Mapping[str, str], at: datetime, now: datetime) -> None:
    """Raise ConfigError for a grant without evidence, and for an act that is still to come."""
    if act is ConsentAct.GRANT and not any(value.strip() for value in evidence.values()):
        raise ConfigError("A grant needs evidence of what was agreed to, and how. Give it with --evidence.")
    if at > now:
        raise ConfigError("The time of the act is still to come. Correct --at.")


def install(con: duckdb.DuckDBPyConnection, store: Store, snapshot: Snapshot | None) -> None:
    """Give a connection what `inbound.take_over` needs beside the acts: `profiles` and the key functions."""
    store.keys.install(con)
    people = (
        f"SELECT contact_id, email FROM read_parquet('{_quoted(snapshot)}')"
        if snapshot
        else "SELECT NULL::VARCHAR AS contact_id, NULL::VARCHAR AS email LIMIT 0"
    )
    con.execute(f"CREATE TEMP VIEW profiles AS {people}").fetchall()


def normal(address: str) -> str:
    """Write an address as a build does; a text that is none stays as it is, in lower case.

    >>> normal(" Ada@Shop.Example ")
    'ada@shop.example'
    """
    text = address.strip().lower()
    try:
        found = validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return text
    return f"{found.local_part}@{found.ascii_domain}".lower()


def in_words(  # noqa: PLR0911  # one sentence per answer
    decided: Verdict, regime: Regime, country: str | None, history: Sequence[LedgerEntry]
) -> str:
    """Say which act decides, and what it outweighs."""
    mail = [each.entry for each in history if _counts(each.entry)]
    deciding = next((e for e in mail if e.act is decided.act and e.occurred_at == decided.at), None)
    when = f"on {_day(decided.at)}" if decided.at else ""
    where = f" ({deciding.source})" if deciding else ""
    older = [e for e in mail if e.act is ConsentAct.GRANT and decided.at and e.occurred_at <= decided.at]
    outweighed = f" The grant of {_day(older[-1].occurred_at)} is not newer." if older else ""
    match decided.state, decided.act:
        case ConsentState.SUBSCRIBED, None:
            return f"Nothing was ever recorded, and segue.yml says {regime} for {country}."
        case ConsentState.SUBSCRIBED, _:
            return f"Said yes {when}{where}, and nothing later takes it back."
        case ConsentState.PENDING, ConsentAct.GRANT:
            return f"Said yes {when}{where}, and nothing shows that it was confirmed, as {regime} asks for."
        case ConsentState.PENDING, _:
            return f"Was asked to confirm {when}{where}, and has not yet."
        case ConsentState.SUPPRESSED, _:
            return f"Suppressed {when}{where}: only `segue consent release` ends that.{outweighed}"
        case ConsentState.UNSUBSCRIBED, ConsentAct.SUPPRESSION:
            return f"The suppression {when}{where} was released; only a grant after it lets mail go again.{outweighed}"
        case ConsentState.UNSUBSCRIBED, _:
            return f"Left {when}{where}.{outweighed}"
        case _:
            return _nothing(regime, mail)


def _nothing(regime: Regime, mail: Sequence[ConsentEntry]) -> str:
    residence = [e for e in mail if e.act is ConsentAct.RESIDENCE]
    if regime is Regime.OPT_OUT and residence:
        lived = residence[-1].evidence.get("country", "another country")
        return f"Nobody recorded a grant, and the data had them in {lived} once: {regime} does not count for them."
    if any(e.act is ConsentAct.GRANT for e in mail):
        return "Nobody recorded a grant with evidence; one without counts for nothing."
    return "Nobody recorded a grant."


def _record(store: Store, person: Person) -> ConsentRecord:
    """Merge what counts: the person and the address that they have; of others, that they left there."""
    records = store.consents.records(person.subjects, CHANNEL, PURPOSE)
    count = {*person.contacts.values(), *person.former, person.here}
    return merge_all(
        records.get(key, NOTHING_RECORDED) if key in count else of_former(records.get(key, NOTHING_RECORDED))
        for key in person.subjects
    )


def _line(each: LedgerEntry, decided: Verdict) -> Line:
    entry = each.entry
    return Line(
        act=entry.act,
        of=each.subject_kind,
        occurred_at=entry.occurred_at,
        channel=entry.channel,
        purpose=entry.purpose,
        source=entry.source,
        evidence=entry.evidence,
        recorded_at=each.recorded_at,
        recorded_by=each.run_id or "",
        counts=_counts(entry),
        decides=_counts(entry) and entry.act is decided.act and entry.occurred_at == decided.at,
    )


def _at(store: Store, destination: str, person: Person) -> AtDestination:
    """Give what a destination shows at any of their addresses: where one is mailed, that."""
    states = set(store.destinations.states(destination, person.addresses).values())
    order = sorted(states, key=lambda state: (state not in MAILABLE, state.value))
    confirmed = store.baselines.payloads(destination, [*person.contacts.values(), *person.former])
    return AtDestination(state=order[0] if order else None, confirmed=bool(confirmed))


def _profiles(snapshot: Snapshot | None, whose: str, *given: object) -> list[dict[str, Any]]:
    if snapshot is None:
        return []
    with scratch() as con:
        query = (
            f"SELECT p.contact_id, p.email, c.country FROM read_parquet('{_quoted(snapshot)}') p"
            f" LEFT JOIN read_parquet('{_quoted(snapshot, 'customers')}') c USING (contact_id)"
            f" WHERE {whose} ORDER BY 1"
        )
        found: list[dict[str, Any]] = con.sql(query, params=list(given)).to_arrow_table().to_pylist()
    return found


def _counts(entry: ConsentEntry) -> bool:
    return (entry.channel, entry.purpose) == (CHANNEL, PURPOSE)


def _day(at: datetime | None) -> str:
    return f"{at.day} {at:%B %Y}" if at else ""


def _quoted(snapshot: Snapshot, table: str = "profiles") -> str:
    return str(snapshot.table(table)).replace("'", "''")
