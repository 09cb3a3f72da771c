"""The limits that a plan's own tables cannot tell, and the one that is watched while a run sends.

Nothing here sends or stops anything: each function says in words what is passed, with its figures. What holds a plan
back never holds back its opt-outs: `execution` sees to that.
"""

from collections.abc import Iterator
from typing import Final

from ...core.config import Guardrails
from ...core.model import Account, Operation, OutcomeStatus, WithheldReason
from ..planning.plan import SHARES_COUNT_FROM, Plan
from .apply import Tally

# So many outcomes, before the refused ones among them say something about those that follow.
_OUTCOMES_COUNT_FROM: Final = 100

_TRIES: Final = (Operation.CREATE, Operation.UPDATE, Operation.READDRESS)
_TRIED: Final = (OutcomeStatus.APPLIED, OutcomeStatus.UNCHANGED, OutcomeStatus.REJECTED)


def passed(plan: Plan, limits: Guardrails, *, confirmed: int, gone_before: int) -> Iterator[str]:
    """Say which limits a plan passes by what was before it.

    `confirmed` is how many contacts the destination confirmed, `gone_before` how many of them the data lacked already
    when a plan was last applied.
    """
    there, vanished = confirmed - gone_before, plan.gone - gone_before
    if there >= SHARES_COUNT_FROM and vanished > limits.max_shrink_share * there:
        yield (
            f"{vanished:,} of {there:,} confirmed contacts vanished from the data:"
            f" more than max_shrink_share {limits.max_shrink_share:g}"
        )
    refused = plan.withheld.get(WithheldReason.REJECTED_BEFORE, 0)
    tried = refused + plan.unchanged + sum(plan.operations.get(operation, 0) for operation in _TRIES)
    if tried >= SHARES_COUNT_FROM and refused > limits.max_reject_share * tried:
        yield (
            f"{refused:,} of {tried:,} contacts were refused before and are not tried again:"
            f" more than max_reject_share {limits.max_reject_share:g}; `segue rejected` says why"
        )


def too_many_rejects(tally: Tally, limits: Guardrails, *, of_all: bool = False) -> str | None:
    """Say that a run is being refused too much to go on, None when it is not, or too little is known yet.

    `of_all`: these are all outcomes that there will be, few as they may be.
    """
    refused = tally.count(OutcomeStatus.REJECTED)
    tried = sum(tally.count(status) for status in _TRIED)
    if tried < (1 if of_all else _OUTCOMES_COUNT_FROM) or refused <= limits.max_reject_share * tried:
        return None
    return f"{refused:,} of {tried:,} changes were refused: more than max_reject_share {limits.max_reject_share:g}"


def emptied(account: Account, confirmed: int) -> Iterator[str]:
    """Doubt an audience that lost most of what it confirmed: contacts known to be there get no create."""
    if account.contacts is not None and account.contacts < confirmed / 2:
        yield (
            f"{account.audience} has {account.contacts:,} contacts and confirmed {confirmed:,} earlier: was it emptied, or"
            " is it another account? To load it anew, give it a destination name of its own"
        )
