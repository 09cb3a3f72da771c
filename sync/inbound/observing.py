"""What an ESP shows and a source records, on its way into the consent ledger and the seen states.

Both the shop's own consents and what is pulled from an ESP end here, in entries that `core.consent` merges; nothing
here decides who may be mailed, and nothing is written to an ESP.

A state seen at an ESP carries no time of its own: `changed_at` moves with our own writes. So a departure is recorded
when the state *becomes* one, not each time it is seen, and a subscription that is seen proves nothing. A departure that
the ESP tells of, with the time of it, is one however they are remembered: they may have come back unseen. Only the ESP's own time of opting in, when it is later than the withdrawal we know, is evidence that somebody came back: and not
where our own write brought it, with whoever was made there or moved there, because somebody else may have the address
now.

What is shown at an address is the word of who has it in the data, and a departure also of who was written there last:
the data may have moved them on, and whoever has the address next must not speak for them. A return is theirs only where
nobody has the address in the data, and it was there that they left.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import chain
from threading import Lock
from typing import Any, Final

import duckdb
import pyarrow as pa

from ...core.consent import NOTHING_RECORDED, ConsentAct, ConsentEntry, ConsentState, Regime, merge_all
from ...core.model import RemoteContact
from ...core.regimes import ConsentConfig
from ...core.scratch import scratch
from ...core.snapshot import Snapshot
from ...core.yamlfile import PROJECT_FILE
from ..store.consents import LEDGER, RECORDS, LedgerEntry
from ..store.destinations import OptIns
from ..store.store import Store

_DEPARTURES: Final = {
    ConsentState.UNSUBSCRIBED: ConsentAct.WITHDRAWAL,
    ConsentState.SUPPRESSED: ConsentAct.SUPPRESSION,
}

# Whose word an act is: a bounce belongs to the address, a withdrawal to the person and to the address, and a grant
# to the person where the source names one. The address of a withdrawal is the person's own when the row has none,
# because somebody else may share it; and where a row has nothing but an address, a withdrawal is that of everyone who
# has it, because they may have another one tomorrow.
# No mapping tells purposes apart, so a stop of one purpose is a stop of all, and so is one of a channel that may mean
# e-mail. What raises somebody counts from its day on, and not before.
_CONSENTS: Final = """
WITH said AS (
    SELECT * REPLACE (
        CASE WHEN stops AND channel NOT IN ('sms', 'phone', 'post', 'push', 'whatsapp', 'cookies') THEN 'email' ELSE channel END AS channel,
        CASE WHEN stops THEN 'marketing' ELSE purpose END AS purpose
    )
    FROM (SELECT *, act IN ('withdrawal', 'suppression') AS stops FROM consents)
    WHERE (stops OR occurred_at <= $now)
      AND NOT coalesce(is_erased_contact(contact_id), false) AND NOT coalesce(is_erased_address(email), false)
),
acts AS (
    SELECT c.* EXCLUDE (email), coalesce(c.email, p.email) AS email, c.email IS NOT NULL AS names_address
    FROM said c LEFT JOIN profiles p USING (contact_id)
)
SELECT subject_key, subject_kind, channel, purpose, act, occurred_at, source, evidence FROM (
    SELECT contact_key(contact_id) AS subject_key, 'contact' AS subject_kind, * FROM acts
    WHERE contact_id IS NOT NULL AND NOT (act = 'suppression' AND email IS NOT NULL)
    UNION ALL
    SELECT address_key(email), 'address', * FROM acts
    WHERE email IS NOT NULL AND (stops OR contact_id IS NULL OR (names_address AND act = 'release'))
    UNION ALL
    SELECT contact_key(p.contact_id), 'contact', a.* FROM acts a JOIN profiles p USING (email)
    WHERE a.contact_id IS NULL AND a.act = 'withdrawal'
)
"""

# Here the country of the last delivery counts as well, where the shop knows no other: it can only keep somebody out.
_RESIDENCES: Final = """
WITH residents AS (
    SELECT contact_id, email, country FROM profiles WHERE country IS NOT NULL AND country NOT IN (SELECT unnest($elsewhere))
),
subjects AS (
    SELECT contact_key(contact_id) AS subject_key, 'contact' AS subject_kind, country FROM residents
    UNION ALL
    SELECT address_key(email), 'address', country FROM residents WHERE email IS NOT NULL
)
SELECT subject_key, subject_kind, 'email' AS channel, 'marketing' AS purpose, 'residence' AS act, $now AS occurred_at,
       $source AS source, to_json({'country': country}) AS evidence
FROM subjects WHERE subject_key NOT IN (FROM recorded)
"""


class People:
    """Finds the contacts of an address in the current snapshot; the table is made at the first question.

    Before the first build there is no snapshot, and nobody has any. Safe to share between threads.
    """

    def __init__(self, snapshot: Snapshot | None, store: Store) -> None:
        self._snapshot = snapshot
        self._lock = Lock()
        self._keys = store.keys
        self._con: duckdb.DuckDBPyConnection | None = None

    def of(self, address_keys: Sequence[int]) -> dict[int, list[int]]:
        """Give the keys of the contacts that have these addresses."""
        query = "SELECT address_key, list(contact_key) FROM people WHERE address_key IN (SELECT unnest(?)) GROUP BY 1"
        return dict(self._rows(query, address_keys)) if address_keys else {}

    def addresses(self, contact_keys: Sequence[int]) -> dict[int, str]:
        """Give the addresses of contacts; who has none is absent."""
        if not contact_keys or self._snapshot is None:
            return {}
        query = (
            "SELECT contact_key, email FROM people JOIN"
            f" (SELECT contact_id, email FROM read_parquet('{self._snapshot.table('profiles')}')) USING (contact_id)"
            " WHERE contact_key IN (SELECT unnest(?))"
        )
        return dict(self._rows(query, contact_keys))

    def _rows(self, query: str, keys: Sequence[int]) -> list[tuple[int, Any]]:
        if self._snapshot is None:
            return []
        with self._lock:
            return self._table(self._snapshot).execute(query, [list(keys)]).fetchall()

    def _table(self, snapshot: Snapshot) -> duckdb.DuckDBPyConnection:
        if self._con is None:
            self._con = scratch()
            self._keys.install(self._con)
            self._con.execute(
                "CREATE TEMP TABLE people AS SELECT contact_id, address_key(email) AS address_key, contact_key(contact_id) AS contact_key"
                f" FROM read_parquet('{snapshot.table('profiles')}') WHERE email IS NOT NULL"
            ).fetchall()
        return self._con


@contextmanager
def consents_of(store: Store, snapshot: Snapshot) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a connection with what `take_over` needs: the snapshot's consents, and who has which address."""
    with scratch() as con:
        store.keys.install(con)
        for table in ("consents", "profiles"):
            con.execute(
                f"CREATE TEMP VIEW {table} AS SELECT * FROM read_parquet('{snapshot.table(table)}')"
            ).fetchall()
        yield con


def record_consents(
    store: Store,
    con: duckdb.DuckDBPyConnection,
    *,
    regimes: ConsentConfig,
    now: datetime,
    run_id: str | None,
) -> int:
    """Add what the shop's own sources say about consent to the ledger, set-wise; give how many acts were new.

    `con` is of `consents_of`. Where a country's law asks nobody, it also remembers who lives elsewhere: another country
    in tomorrow's data must not raise them.
    """
    new = take_over(store, con, now=now, run_id=run_id)
    if regimes.asks_nobody:
        new += _record_residences(store, con, regimes, now=now, run_id=run_id)
    return new


def take_over(
    store: Store,
    con: duckdb.DuckDBPyConnection,
    *,
    now: datetime,
    run_id: str | None,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Add the acts of table `consents` to the ledger; give how many were new.

    `con` has it as `core.data` makes it, table `profiles` (contact_id, email), and the functions of ContactKeys.
    `progress` is told how many lines are through.
    """
    store.tombstones.install(con)  # nothing more is recorded of who was erased
    reader = con.sql(_CONSENTS, params={"now": now}).to_arrow_reader(50_000)

    def lines() -> Iterator[pa.RecordBatch]:
        done = 0
        for batch in reader:
            yield batch.cast(LEDGER)
            done += batch.num_rows
            progress(done)

    return store.consents.append_batches(lines(), run_id=run_id)


def _record_residences(
    store: Store,
    con: duckdb.DuckDBPyConnection,
    regimes: ConsentConfig,
    *,
    now: datetime,
    run_id: str | None,
) -> int:
    """Remember who is in the data of a country where silence is no consent, and of whom nothing else is recorded."""
    if "country" not in {name for name, *_ in con.execute("DESCRIBE profiles").fetchall()}:
        return 0
    con.execute("CREATE TEMP TABLE recorded (subject_key BIGINT)").fetchall()
    said = " OR ".join(f"{name} IS NOT NULL" for name in RECORDS.names[1:])
    for batch in store.consents.stream_records():
        con.register("record_batch", pa.Table.from_batches([batch]))
        con.execute(f"INSERT INTO recorded SELECT subject_key FROM record_batch WHERE {said}").fetchall()
        con.unregister("record_batch")
    asking_nobody = [country for country, regime in regimes.regimes.items() if regime is Regime.OPT_OUT]
    reader = con.sql(
        _RESIDENCES, params={"now": now, "elsewhere": asking_nobody, "source": PROJECT_FILE}
    ).to_arrow_reader(50_000)
    return store.consents.append_batches((batch.cast(LEDGER) for batch in reader), run_id=run_id)


def observe(
    store: Store,
    destination: str,
    contacts: Sequence[RemoteContact],
    *,
    people: People,
    now: datetime,
    run_id: str | None,
    told: bool = False,
) -> int:
    """Remember what the ESP shows of a page of contacts; give how many of them turn out to have left.

    `told` says that they are departures, and `changed_at` when each happened, by the ESP's own word.
    """
    shown = {store.keys.address_key(contact.address): contact for contact in contacts}
    before = store.destinations.states(destination, shown)
    gone = {key: c for key, c in shown.items() if c.state in _DEPARTURES}
    same = {key: c for key, c in gone.items() if before.get(key) is c.state}
    again = (_left_since if told else _left_again)(store, destination, same)
    left = {key: c for key, c in gone.items() if before.get(key) is not c.state or key in again}
    erased = store.tombstones.among([c.address for c in left.values()]) if left else ()
    left = {key: replace(c, status="") if c.address in erased else c for key, c in left.items()}
    back = {key: c for key, c in shown.items() if c.state is ConsentState.SUBSCRIBED and c.opted_in_at}
    of = people.of([*left, *back])
    written = store.destinations.written_for(destination, [*left, *(back.keys() - of.keys())])
    entries = [
        *departures(destination, left, of, written, now),
        *_returns(store, destination, back, of, written),
    ]
    # The ledger first: a crash in between records a departure twice, which merging does not mind, and never not at all.
    store.consents.append(entries, run_id=run_id)
    store.destinations.record_remote(destination, shown)
    return len(left)


def _left_again(store: Store, destination: str, gone: Mapping[int, RemoteContact]) -> set[int]:
    """Give who came back and left once more since we looked: they opted in after the departure that we know.

    An opt-in that was seen before is what our own opt-out ended.
    """
    known = store.consents.records(key for key, contact in gone.items() if contact.opted_in_at)
    later = {
        key: opted_in_at
        for key, record in known.items()
        if (left_at := record.withdrawn_at)
        and (opted_in_at := gone[key].opted_in_at)
        and opted_in_at > left_at
    }
    opt_ins = store.destinations.opt_ins(destination, later)
    return {key for key, at in later.items() if key not in opt_ins or opt_ins[key].is_news(at)}


def _left_since(store: Store, destination: str, gone: Mapping[int, RemoteContact]) -> set[int]:
    """Give who left after we saw them gone. What our own opt-out set off is older than our knowledge of it."""
    looks = store.destinations.opt_ins(destination, gone)
    return {
        key
        for key, contact in gone.items()
        if contact.changed_at and (key not in looks or contact.changed_at > looks[key].looked_at)
    }


def departures(
    destination: str,
    left: Mapping[int, RemoteContact],
    of: Mapping[int, Sequence[int]],
    written: Mapping[int, int],
    now: datetime,
) -> Iterable[LedgerEntry]:
    """Give what contacts who left say, by address key: for the address, those who have it, and whom we wrote there.

    Who was erased leaves no evidence: nothing is held of them, and an ESP tells of its own deletion too.
    """
    for key, contact in left.items():
        act = _DEPARTURES[contact.state]
        entry = ConsentEntry(
            act=act,
            occurred_at=contact.changed_at or now,
            source=f"seen at {destination}",
            evidence={"status": contact.status} if contact.status else {},
        )
        yield LedgerEntry(subject_key=key, subject_kind="address", entry=entry)
        if act is ConsentAct.WITHDRAWAL:
            for person in {*of.get(key, ()), *_only(written, key)}:
                yield LedgerEntry(subject_key=person, subject_kind="contact", entry=entry)


def _only(written: Mapping[int, int], key: int) -> tuple[int, ...]:
    return (written[key],) if key in written else ()


def _returns(
    store: Store,
    destination: str,
    back: Mapping[int, RemoteContact],
    of: Mapping[int, Sequence[int]],
    written: Mapping[int, int],
) -> Iterable[LedgerEntry]:
    """Give a grant for each contact who opted in again, by the ESP's own clock, after the withdrawal we know of.

    It is the address's, and the word of who has that now only where it is news: they may have it from somebody else.
    """
    persons = {key: of.get(key) or _only(written, key) for key in back}
    known = store.consents.records({*back, *chain.from_iterable(persons.values())}) if back else {}
    later = {}
    for key, contact in back.items():
        records = [known.get(subject, NOTHING_RECORDED) for subject in (key, *persons[key])]
        withdrawn_at, at = merge_all(records).withdrawn_at, contact.opted_in_at
        if withdrawn_at is None or at is None or at <= withdrawn_at:
            continue
        if any(record.granted_at is None or record.granted_at < at for record in records):
            later[key] = at
    opt_ins = store.destinations.opt_ins(destination, later)
    ours = _came_with_us(store, destination, later, opt_ins) if later else set()
    for key in later.keys() - ours:
        opted_in_at = later[key]
        entry = ConsentEntry(
            act=ConsentAct.GRANT,
            occurred_at=opted_in_at,
            source=f"opted in at {destination}",
            evidence={"opted_in_at": opted_in_at.isoformat(), "status": back[key].status},
        )
        yield LedgerEntry(subject_key=key, subject_kind="address", entry=entry)
        is_news = key not in opt_ins or opt_ins[key].is_news(opted_in_at)
        left_at = known.get(key, NOTHING_RECORDED).withdrawn_at
        for person in persons[key] if is_news else ():
            if key in of or known.get(person, NOTHING_RECORDED).withdrawn_at == left_at:
                yield LedgerEntry(subject_key=person, subject_kind="contact", entry=entry)


def _came_with_us(
    store: Store, destination: str, opted_in: Mapping[int, datetime], opt_ins: Mapping[int, OptIns]
) -> set[int]:
    """Give the addresses whose opt-in came with a write of ours, and is no word of who has the address now.

    Of what nobody has heard of yet, a move brings what the contact had, where that is known, and a create states a
    grant of its contact; ESPs keep whole seconds of it.
    """
    ours = {
        key
        for key, at in opted_in.items()
        if key in opt_ins and (stated := opt_ins[key].stated) and at <= stated
    }
    for row in store.outbox.arrivals_at(destination, list(opted_in)):
        if previous := row.change().previous_address:
            left = store.keys.address_key(previous)
            had = store.destinations.opt_ins(destination, [left]).get(left)
            brought = [at for at in (had.seen, had.stated) if at] if had else []
        else:
            said = (each.entry for each in store.consents.history([row.contact_key, row.address_key]))
            brought = [each.occurred_at for each in said if each.act in {ConsentAct.GRANT, ConsentAct.BASIS}]
        at = opted_in[row.address_key].replace(microsecond=0)
        if at in {each.replace(microsecond=0) for each in brought} or (previous and not brought):
            ours.add(row.address_key)
    return ours
