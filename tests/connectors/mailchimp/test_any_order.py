"""People and the engine act in any order, and nobody who left comes back but by a create."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segue.connectors.emulator import PersonAct
from segue.connectors.mailchimp.connector import Mailchimp
from segue.connectors.mailchimp.payload import subscriber_hash
from segue.connectors.mailchimp.testing import Sandbox
from segue.core.model import Operation

from .changes import act, address, archive, change, connected, creates, write

Step = Callable[[Sandbox, Mailchimp, int], Any]


def _person(what: PersonAct) -> Step:
    return lambda box, _, number: _try(lambda: act(box, what, number))


PEOPLE = {
    what.value: _person(what)
    for what in (PersonAct.UNSUBSCRIBE, PersonAct.BOUNCE, PersonAct.COMPLAIN, PersonAct.ERASE)
}


def _update(box: Sandbox, connector: Mailchimp, number: int) -> None:
    # As the engine does: to whom a pull has shown, archived or erased since though they may be.
    audience, key = box.emulator.audience, subscriber_hash(address(number))
    if key in audience.members or key in audience.forgotten:
        write(connector, change(Operation.UPDATE, number, tags=("segue: b",)))


STEPS: dict[str, Step] = {
    **PEOPLE,
    "archive": lambda box, _, number: _try(lambda: archive(box, number)),
    "update": _update,
    "readdress": lambda _, connector, number: write(
        connector,
        change(Operation.READDRESS, number, address=address(number + 4), previous_address=address(number)),
    ),
    "opt_out": lambda _, connector, number: write(connector, change(Operation.OPT_OUT, number)),
    "untag": lambda _, connector, number: write(
        connector, change(Operation.UNTAG, number, tags=("segue: a",))
    ),
    "pull": lambda _, connector, __: list(connector.pull(None)),
}


def _try(act_: Callable[[], None]) -> None:
    with suppress(LookupError, AssertionError):  # nobody there to act
        act_()


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 3)), max_size=15),
    st.sampled_from(["adversarial", "permissive"]),
)
def test_whatever_happens_in_whatever_order_nothing_but_a_create_brings_anyone_back(
    mailchimp: Sandbox, steps: list[tuple[str, int]], mode: str
) -> None:
    mailchimp.emulator.reset()
    mailchimp.settings(mode=mode)
    with connected(mailchimp) as connector:
        write(connector, *creates(4, tags=("segue: a",)))
        refused: set[str] = set()
        for name, number in steps:
            before = {key: member.status for key, member in mailchimp.emulator.audience.members.items()}
            STEPS[name](mailchimp, connector, number)
            for member in mailchimp.emulator.audience.members.values():
                if member.refused:
                    refused.add(member.contact_id)
                if name not in PEOPLE and before.get(member.id) in {"unsubscribed", "cleaned", "archived"}:
                    assert member.status in {"unsubscribed", "cleaned", "archived"}
        assert mailchimp.emulator.audience.raises == []
        mailable = [
            m for m in mailchimp.emulator.audience.members.values() if m.status in {"subscribed", "pending"}
        ]
        assert not [member for member in mailable if member.contact_id in refused]
