"""Opens and clicks from reports: all of them, each asked for once, and requests only where there is news."""

from datetime import UTC, datetime, timedelta

from segue.connectors.emulator import PersonAct
from segue.connectors.mailchimp.connector import Mailchimp
from segue.connectors.mailchimp.testing import Sandbox
from segue.core.model import Engagement, Operation

from .changes import act, address, change, creates, write

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
LONG_AGO = START - timedelta(days=90)


def pulled(connector: Mailchimp, cursor: str | None = None) -> tuple[list[Engagement], str | None]:
    found: list[Engagement] = []
    for page in connector.engagement(cursor, since=LONG_AGO):
        found += page.found
        cursor = page.cursor
    return found, cursor


def acts(found: list[Engagement]) -> set[tuple[str, str, datetime]]:
    return {(each.address, each.kind.value, each.occurred_at) for each in found}


def test_opens_and_clicks_are_told_with_their_times(mailchimp: Sandbox, connector: Mailchimp) -> None:
    clock = mailchimp.emulator.clock
    clock.set(START)
    write(connector, *creates(3))
    campaign = mailchimp.emulator.send_campaign()
    clock.advance(timedelta(minutes=1))
    act(mailchimp, PersonAct.OPEN, 0)
    clock.advance(timedelta(minutes=1))
    act(mailchimp, PersonAct.CLICK, 0)
    act(mailchimp, PersonAct.OPEN, 2)
    found, _ = pulled(connector)
    assert acts(found) == {
        (address(0), "open", START + timedelta(minutes=1)),
        (address(0), "click", START + timedelta(minutes=2)),
        (address(2), "open", START + timedelta(minutes=2)),
    }
    assert {each.campaign for each in found} == {campaign}


def test_a_campaign_without_news_costs_no_request_of_its_own(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    mailchimp.emulator.clock.set(START)
    write(connector, *creates(2))
    for _ in range(3):
        mailchimp.emulator.send_campaign()
        act(mailchimp, PersonAct.OPEN, 0)
    _, cursor = pulled(connector)
    mailchimp.referee.exchanges.clear()
    assert pulled(connector, cursor) == ([], cursor)
    assert len(mailchimp.referee.exchanges) == 1
    mailchimp.emulator.clock.advance(timedelta(days=1))
    act(mailchimp, PersonAct.CLICK, 1)
    mailchimp.referee.exchanges.clear()
    found, _ = pulled(connector, cursor)
    assert (address(1), "click", START + timedelta(days=1)) in acts(found)
    assert len(mailchimp.referee.exchanges) == 2


def test_a_reading_that_is_cut_off_goes_on_behind_its_last_page(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    mailchimp.emulator.clock.set(START)
    mailchimp.settings(mode="adversarial")  # lists recipients without activity as well
    for start in range(0, 1500, 500):
        write(connector, *[change(Operation.CREATE, number) for number in range(start, start + 500)])
    mailchimp.emulator.send_campaign()
    for number in (0, 600, 1400):
        act(mailchimp, PersonAct.OPEN, number)
    pages = connector.engagement(None, since=LONG_AGO)
    first = next(pages)
    assert acts(list(first.found)) == {(address(0), "open", START)}
    rest, cursor = pulled(connector, first.cursor)
    assert acts(rest) == {(address(600), "open", START), (address(1400), "open", START)}
    assert pulled(connector, cursor)[0] == []


def test_what_is_reported_late_is_not_missed(mailchimp: Sandbox, connector: Mailchimp) -> None:
    clock = mailchimp.emulator.clock
    clock.set(START)
    write(connector, *creates(2))
    act(mailchimp, PersonAct.OPEN, 0)
    _, cursor = pulled(connector)
    clock.advance(timedelta(minutes=-30))
    act(mailchimp, PersonAct.OPEN, 1)
    found, _ = pulled(connector, cursor)
    assert (address(1), "open", START - timedelta(minutes=30)) in acts(found)


def test_other_audiences_campaigns_are_not_read(mailchimp: Sandbox, connector: Mailchimp) -> None:
    write(connector, *creates(1))
    with mailchimp.emulator.lock:
        other = mailchimp.emulator.account.add_audience("Other")
    mailchimp.emulator.act(PersonAct.SUBSCRIBE, audience=other.id, address=address(0))
    mailchimp.emulator.act(PersonAct.OPEN, audience=other.id, address=address(0))
    assert pulled(connector)[0] == []
