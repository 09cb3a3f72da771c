"""The one gate: every change passes it when it is planned and again, with fresh knowledge, when it is packed.

At plan time the decision is made set-wise, yet by the very function that decides for one contact:
`core.consent.effective` looks only at a regime and at the order of a few instants, so contacts of one regime whose
instants stand in the same order share a decision. The gate groups them by both, asks the function once per group, and
joins the answer back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from itertools import combinations, count

import duckdb

from ..core.consent import (
    LEFT,
    MAILABLE,
    NOTHING_RECORDED,
    ConsentRecord,
    ConsentState,
    Regime,
    effective,
    verdict,
)
from ..core.errors import ConsentError
from ..core.model import Change, Grant, Operation, Outcome, OutcomeStatus, WithheldReason
from ..core.yamlfile import PROJECT_FILE

INSTANTS = tuple(slot.name for slot in fields(ConsentRecord))

SENTENCES: Mapping[WithheldReason, str] = {
    WithheldReason.NO_GRANT: "no recorded grant: nobody is written who has not agreed",
    WithheldReason.WITHDRAWN: "has unsubscribed",
    WithheldReason.SUPPRESSED: "bounced, complained or was erased",
    WithheldReason.PENDING: "was asked to confirm and has not yet",
    WithheldReason.INVALID_ADDRESS: "has no valid e-mail address",
    WithheldReason.SHARED_ADDRESS: "shares its address with another contact, who is written instead",
    WithheldReason.HOLD_OUT: "is in the hold-out group",
    WithheldReason.OVER_BUDGET: "did not fit into the budget",
    WithheldReason.REJECTED_BEFORE: "was refused by the ESP with this very content; see `segue rejected`",
    WithheldReason.AGREED_SINCE: "has agreed since the opt-out was put in",
}

_STATE_WITHHOLDS = {
    ConsentState.UNSUBSCRIBED: WithheldReason.WITHDRAWN,
    ConsentState.SUPPRESSED: WithheldReason.SUPPRESSED,
    ConsentState.PENDING: WithheldReason.PENDING,
    ConsentState.UNKNOWN: WithheldReason.NO_GRANT,
}


def decide(
    con: duckdb.DuckDBPyConnection, records: str, states: str, *, regime: str = f"'{Regime.OPT_IN}'"
) -> None:
    """Create table `states` (contact_key, state) from table `records` (contact_key and the instants, naive UTC).

    A contact without any record is in `records` with nulls alone. An instant that `records` has no column for is
    nobody's. `regime` is an expression over its columns.
    """
    columns = {name for name, *_ in con.execute(f"DESCRIBE {records}").fetchall()}
    names = [name for name in INSTANTS if name in columns]
    # One number per order: a bit for each instant that is there, and two for each pair.
    order = " + ".join(
        [f"CASE WHEN {one} IS NULL THEN 0 ELSE {1 << place} END" for place, one in enumerate(names)]
        + [
            f"CASE WHEN {one} < {other} THEN {1 << place} WHEN {one} = {other} THEN {2 << place}"
            f" WHEN {one} > {other} THEN {3 << place} ELSE 0 END"
            for place, (one, other) in zip(count(len(names), 2), combinations(names, 2))
        ]
    )
    samples = ", ".join(f"any_value({name}) AS {name}" for name in names)
    orders = con.execute(
        f"SELECT ordering, regime, {samples} FROM (SELECT ({order})::BIGINT AS ordering, {regime} AS regime,"
        f" {', '.join(names)} FROM {records}) GROUP BY ordering, regime"
    ).fetchall()
    con.execute(
        "CREATE OR REPLACE TABLE ordering_state (ordering BIGINT, regime VARCHAR, state VARCHAR)"
    ).fetchall()
    for ordering, law, *instants in orders:
        aware = [instant and instant.replace(tzinfo=UTC) for instant in instants]
        state = effective(ConsentRecord(**dict(zip(names, aware, strict=True))), Regime(law))
        con.execute("INSERT INTO ordering_state VALUES (?, ?, ?)", [ordering, law, state.value]).fetchall()
    con.execute(
        f"CREATE OR REPLACE TABLE {states} AS SELECT contact_key, state"
        f" FROM (SELECT contact_key, ({order})::BIGINT AS ordering, {regime} AS regime FROM {records})"
        " JOIN ordering_state USING (ordering, regime)"
    ).fetchall()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of one contact at the moment of packing: consent of person and address, and the ESP's own view.

    `basis` stands in for a grant where the law of the contact's country asks for none. `urged` says that an opt-out
    is of no plan, but was put in when they left, which may be long ago. `shows_consent` is the ESP's: where whoever is
    there is mailed unless they refused, being there is no sign that they agreed.
    """

    record: ConsentRecord
    remote: ConsentState | None  # None: the ESP does not have the address
    grant: Grant | None
    regime: Regime = Regime.OPT_IN
    basis: Grant | None = None
    urged: bool = False
    shows_consent: bool = True


def admit(  # noqa: PLR0911  # one answer per line reads better than a ladder
    change: Change, standing: Standing, *, double_opt_in: bool
) -> Change | Outcome:
    """Let a change through, with the consent it may state, or say why it is withheld.

    A create states `subscribed` only on an evidenced grant newer than every withdrawal, or on the law of a country
    that asks for none and of whom nothing was ever recorded; and `pending` where the audience confirms by mail.
    Whoever has left at the ESP comes back by its own form alone. The removal of a tag always passes, and an opt-out
    unless it waited until they said yes again: it would end what they have just begun, and no shop could mend that.
    """
    match change.operation:
        case Operation.UNTAG:
            return change
        case Operation.OPT_OUT:
            if standing.urged and effective(standing.record) is ConsentState.SUBSCRIBED:
                return _withheld(WithheldReason.AGREED_SINCE)
            return replace(change, consent=ConsentState.UNSUBSCRIBED)
        case Operation.CREATE:
            return _raised(change, standing, double_opt_in=double_opt_in)
        case Operation.UPDATE | Operation.READDRESS:
            state = effective(standing.record, standing.regime)
            if state in LEFT or (not standing.shows_consent and state is not ConsentState.SUBSCRIBED):
                return _withheld(_STATE_WITHHOLDS[state])
            if standing.remote not in MAILABLE:
                return _withheld(_STATE_WITHHOLDS.get(standing.remote or state, WithheldReason.NO_GRANT))
            return change


def _raised(change: Change, standing: Standing, *, double_opt_in: bool) -> Change | Outcome:
    """Let a create state the consent that its contact gave: the one change that raises anybody."""
    decided = verdict(standing.record, standing.regime)
    if decided.state is not ConsentState.SUBSCRIBED:
        return _withheld(_STATE_WITHHOLDS[decided.state])
    if standing.remote is not None and standing.remote in LEFT:
        return _withheld(_STATE_WITHHOLDS[standing.remote])
    grant = standing.basis if decided.act is None else standing.grant
    if grant is None:
        return _withheld(WithheldReason.NO_GRANT)
    consent = ConsentState.PENDING if double_opt_in else ConsentState.SUBSCRIBED
    return replace(change, consent=consent, grant=grant)


def certify(changes: Sequence[Change]) -> None:
    """Refuse, loudly, a batch in which anything but a gated create or an opt-out states a consent.

    The last look before the connector: it can only fail when the code above it is wrong.
    """
    for change in changes:
        lowers = change.operation is Operation.OPT_OUT and change.consent is ConsentState.UNSUBSCRIBED
        raises = (
            change.operation is Operation.CREATE and change.grant is not None and change.consent in MAILABLE
        )
        silent = change.consent is None and change.operation not in {Operation.CREATE, Operation.OPT_OUT}
        if not (lowers or raises or silent):
            raise ConsentError(
                f"A {change.operation} was about to state consent {change.consent} without passing the gate."
                " Nothing of this batch was sent. This is a bug in Segue: please report it."
            )


def of_former(record: ConsentRecord) -> ConsentRecord:
    """Give what the record of an address that a person gave up still says about them: that they left, if it says so.

    A yes there is that of whoever has the address now, and outweighs no other record.
    """
    match effective(record):
        case ConsentState.SUPPRESSED:
            return ConsentRecord(withdrawn_at=record.withdrawn_at, suppressed_at=record.suppressed_at)
        case ConsentState.UNSUBSCRIBED:
            ends = [each for each in (record.withdrawn_at, record.suppressed_at) if each is not None]
            return ConsentRecord(withdrawn_at=max(ends))
        case _:
            return NOTHING_RECORDED


def basis_in(country: str | None, regime: Regime, at: datetime) -> Grant | None:
    """Give what a create without a grant rests on in a country whose law asks for none: the project's own word."""
    if country is None or regime is not Regime.OPT_OUT:
        return None
    return Grant(
        granted_at=at,
        source=PROJECT_FILE,
        evidence={"country": country, "setting": f"consent.regimes.{country}: {regime}"},
    )


def rests_on_law(grant: Grant) -> bool:
    """Say whether a grant is no person's word, but what `basis_in` gives in its place."""
    return grant.source == PROJECT_FILE


def reason_in_words(reason: str, since: datetime | None = None) -> str:
    """Say why a contact is withheld, with the day where there is one.

    >>> from datetime import UTC, datetime
    >>> reason_in_words("withdrawn", datetime(2026, 5, 3, tzinfo=UTC))
    'has unsubscribed (3 May 2026)'
    """
    words = next(text for known, text in SENTENCES.items() if known == reason)
    return f"{words} ({since.day} {since:%B %Y})" if since else words


def _withheld(reason: WithheldReason) -> Outcome:
    return Outcome(status=OutcomeStatus.WITHHELD, code=reason.value, reason=SENTENCES[reason])
