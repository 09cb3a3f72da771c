"""Messages that name a record and no address, as HubSpot's do: believed at once where we know whose it is."""

import json
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from segue.connectors.hubspot.testing import Sandbox
from segue.connectors.hubspot.webhooks import HubSpotWebhooks
from segue.core.consent import ConsentState
from segue.sync.jobs import utc_now
from segue.sync.receiving import believe, follow_hints
from segue.sync.store.inbox import Message

from ..shop import Shop
from .test_consent_paths import ADDRESS
from .test_receiving import later


@pytest.fixture
def shop(hubspot: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("SANDBOX_KEY", hubspot.key)
    made = Shop(tmp_path, hubspot, "sqlite")
    made.stock(2)
    made.run()
    return made


def post(shop: Shop, record: str, **more: Any) -> None:
    event = {
        "subscriptionType": "contact.propertyChange",
        "propertyName": "hs_email_optout",
        "propertyValue": "true",
        "objectId": int(record),
        "occurredAt": int(datetime.now(UTC).timestamp() * 1000) + 1000,
    }
    body = json.dumps([event | more]).encode()
    message = Message(
        destination="newsletter", name=body.decode(), content_type="application/json", body=body
    )
    with ExitStack() as stack:
        shop.job(stack).store.inbox.put([message])


def believed(shop: Shop) -> ConsentState | None:
    with ExitStack() as stack:
        job = shop.job(stack)
        believe(
            job.store,
            "newsletter",
            HubSpotWebhooks(),
            people=job.people,
            destinations=list(job.project.destinations),
            clock=utc_now,
        )
        assert job.connector.transport.traffic().requests == 0
        key = job.store.keys.address_key(ADDRESS)
        return job.store.destinations.states("newsletter", [key]).get(key)


def test_who_left_is_known_by_the_record_that_we_wrote_and_no_pull_has_shown(shop: Shop) -> None:
    post(shop, shop.people()[ADDRESS].name)
    assert believed(shop) is ConsentState.UNSUBSCRIBED
    shop.customers["c00000"].email = "second@shop.example"
    shop.run()
    assert "second@shop.example" not in shop.people()


def test_a_record_that_nobody_knows_asks_for_a_pull(shop: Shop) -> None:
    post(shop, "987654")
    assert believed(shop) is ConsentState.SUBSCRIBED
    with ExitStack() as stack:
        job = shop.job(stack)
        job.store.inbox._clock = later
        followed = follow_hints(job, HubSpotWebhooks())
    assert (followed.hints, followed.moved) == (1, True)


def test_a_hint_about_a_known_record_reads_its_contact(shop: Shop) -> None:
    shop.sandbox.emulator.account.consent.leave(ADDRESS, "unsubscribe", shop.sandbox.emulator.clock.now())
    shop.sandbox.emulator.account.records.restate(ADDRESS, "EMAIL")
    post(shop, shop.people()[ADDRESS].name, subscriptionType="contact.merge", propertyName=None)
    believed(shop)
    with ExitStack() as stack:
        job = shop.job(stack)
        job.store.inbox._clock = later
        assert not follow_hints(job, HubSpotWebhooks()).moved
        key = job.store.keys.address_key(ADDRESS)
        assert job.store.destinations.states("newsletter", [key])[key] is ConsentState.UNSUBSCRIBED
