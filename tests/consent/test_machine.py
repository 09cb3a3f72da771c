"""No reachable state has a person subscribed who withdrew later than the newest evidence.

Always the same programmes here, and few; `benchmarks/bench_consent.py` draws as many as it is told. Each of the planted
mistakes must be found by the very same search within its budget, or the machine is too kind.
"""

from collections.abc import Sequence
from typing import Any

import pytest

from .accounts import PAIRS
from .machine import search
from .planted import BUGS

pytestmark = pytest.mark.slow

EXAMPLES, BUDGET = 6, 30  # programmes: as Segue is, and until a planted mistake must be found
STEPS = 5  # in each, beside those that all begin and end with
# Where a mistake is found soon, in fewer than ten programmes: each takes some seconds.
SEEDS = {
    "status_sent_on_update": 3,
    "archived_treated_as_missing": 12,
    "lost_create_resent_blindly": 1,
    "transport_retry_of_old_bytes": 1,
    "polled_state_taken_as_evidence": 4,
    "unmapped_opt_out_ignored": 13,
}


@pytest.mark.parametrize("two_accounts", PAIRS, indirect=True)
def test_nobody_is_mailed_after_their_newest_no(two_accounts: Sequence[Any]) -> None:
    search(two_accounts, examples=EXAMPLES, steps=STEPS, number=0)


@pytest.mark.parametrize("bug", BUGS)
def test_the_machine_finds_a_planted_mistake(
    bug: str, two_accounts: Sequence[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    BUGS[bug](monkeypatch)
    with pytest.raises(AssertionError, match=r"run \d+"):
        search(two_accounts, examples=BUDGET, steps=STEPS, number=SEEDS.get(bug, 0), shrink=False)
