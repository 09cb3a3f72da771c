"""Whose law a plan asks: by country, and never in favour of who said anything but yes."""

from datetime import timedelta

import pyarrow.parquet as pq
import pytest

from segue.core.config import ConsentConfig
from segue.core.consent import ConsentRecord, ConsentState, Regime

from .planner import GRANTED, LEFT, NOW, Person, Planner, reasons, steps

REGIMES = ConsentConfig(regimes={"US": Regime.OPT_OUT, "DE": Regime.DOUBLE_OPT_IN})
NOTHING = ConsentRecord()
BEFORE = NOW - timedelta(days=40)


def test_a_contact_of_an_opt_out_country_is_created_without_a_grant_and_the_step_says_where(
    planned: Planner,
) -> None:
    plan = planned(Person("ada", country="US", consent=NOTHING), regimes=REGIMES)
    assert [(row["operation"], row["country"]) for row in pq.read_table(plan.steps).to_pylist()] == [
        ("create", "US")
    ]
    assert plan.without_grant == {"US": 1}


@pytest.mark.parametrize("country", ["FR", "DE", None])
def test_nobody_else_is_created_without_a_grant(planned: Planner, country: str | None) -> None:
    plan = planned(Person("ada", country=country, consent=NOTHING), regimes=REGIMES)
    assert (steps(plan), reasons(plan)) == ([], {"ada": "no_grant"})


def test_without_a_word_in_the_settings_no_country_is_an_opt_out_country(planned: Planner) -> None:
    plan = planned(Person("ada", country="US", consent=NOTHING))
    assert (steps(plan), reasons(plan)) == ([], {"ada": "no_grant"})


@pytest.mark.parametrize(
    ("consent", "reason"),
    [
        (LEFT, "withdrawn"),
        (ConsentRecord(withdrawn_at=BEFORE), "withdrawn"),
        (ConsentRecord(suppressed_at=BEFORE), "suppressed"),
        (ConsentRecord(suppressed_at=BEFORE, released_at=NOW), "withdrawn"),
        (ConsentRecord(requested_at=BEFORE), "pending"),
        (ConsentRecord(resident_at=BEFORE), "no_grant"),
    ],
)
def test_an_opt_out_country_raises_nobody_who_said_or_was_said_anything(
    planned: Planner, consent: ConsentRecord, reason: str
) -> None:
    plan = planned(Person("ada", country="US", consent=consent), regimes=REGIMES)
    assert (steps(plan), reasons(plan)) == ([], {"ada": reason})


def test_what_an_address_said_counts_in_an_opt_out_country_too(planned: Planner) -> None:
    plan = planned(
        Person("ada", country="US", consent=NOTHING, address_consent=ConsentRecord(withdrawn_at=BEFORE)),
        regimes=REGIMES,
    )
    assert (steps(plan), reasons(plan)) == ([], {"ada": "withdrawn"})


def test_double_opt_in_takes_a_confirmed_grant_alone(planned: Planner) -> None:
    confirmed = ConsentRecord(granted_at=BEFORE, confirmed_at=BEFORE)
    plan = planned(
        Person("ada", country="DE", consent=GRANTED),
        Person("bob", country="DE", consent=confirmed),
        Person("cyd", country="FR", consent=GRANTED),
        Person("dan", country=None, consent=GRANTED),
        regimes=REGIMES,
    )
    assert steps(plan) == [("create", "bob", ""), ("create", "cyd", "")]
    assert reasons(plan) == {"ada": "pending", "dan": "pending"}


def test_who_is_mailed_already_is_updated_whatever_the_law(planned: Planner) -> None:
    plan = planned(
        Person("ada", country="DE", consent=GRANTED, remote=ConsentState.SUBSCRIBED.value), regimes=REGIMES
    )
    assert steps(plan) == [("update", "ada", "")]
