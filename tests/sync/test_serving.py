"""What works off behind the doors, between two real accounts: nobody waits for an account that is not theirs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import monotonic, sleep
from urllib.parse import urlencode

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.mailchimp.testing import Sandbox, running_sandbox
from segue.connectors.mailchimp.webhooks import MailchimpWebhooks
from segue.core.config import Project, load_project
from segue.core.consent import ConsentState
from segue.core.snapshot import current
from segue.sync import jobs
from segue.sync.jobs import Job
from segue.sync.serving import Serving
from segue.sync.store.inbox import Message
from segue.sync.store.store import Store

from ..shop import Shop

FIRST = "c00000@shop.example"
FORM = "application/x-www-form-urlencoded"
PATIENCE = 30.0  # seconds that a slow machine may take
OTHERS = """\
    webhooks: {{token: env:HOOK_TOKEN}}
  other:
    connector: mailchimp
    mapping: mapping.yml
    settings:
      api_key: env:SANDBOX_KEY
      audience: {audience}
      base_url: {base_url}
  broken:
    connector: mailchimp
    mapping: broken.yml
    settings:
      api_key: env:SANDBOX_KEY
      audience: {audience}
      base_url: {base_url}
"""


@pytest.fixture(scope="module")
def other_process() -> Iterator[Sandbox]:
    with running_sandbox() as sandbox:
        yield sandbox


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A shop in two accounts, and a third one that cannot be opened."""

    shop: Shop
    other: Sandbox
    project: Project
    store: Store

    def mailed(self, address: str = FIRST) -> bool:
        state = self.other.emulator.state(count=10, offset=0, address=address)
        return bool(state["audiences"][self.other.audience]["members"][0]["status"] == "subscribed")

    def leave(self, *addresses: str) -> None:
        """Put what the first account posts of somebody who left into the inbox."""
        for address in addresses or (FIRST,):
            said = {
                "type": "unsubscribe",
                "fired_at": "2096-01-01 00:00:00",  # newer than any look
                "data[email]": address,
            }
            body = urlencode(said).encode()
            message = Message(destination="newsletter", name=address, content_type=FORM, body=body)
            self.store.inbox.put([message])

    @contextmanager
    def serving(self) -> Iterator[Serving]:
        serving = Serving(self.project, self.store, {"newsletter": MailchimpWebhooks()})
        serving.start()
        try:
            yield serving
        finally:
            serving.stop()

    def until_left(self) -> bool:
        deadline = monotonic() + PATIENCE
        while self.mailed() and monotonic() < deadline:
            sleep(0.02)
        return not self.mailed()


@pytest.fixture
def scene(shop: Shop, other_process: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("HOOK_TOKEN", "t" * 43)
    shop.more = OTHERS.format(audience=other_process.audience, base_url=other_process.base_url)
    shop.stock(2)
    (shop.folder / "broken.yml").write_text("connector: mailchimp\n")
    with other_process.fresh(), ExitStack() as stack:
        shop.build()
        project = load_project(shop.folder)
        (shop.folder / "broken.yml").unlink()
        store = stack.enter_context(Store.of(project))
        for name in ("newsletter", "other"):
            with Job(project, name, store, current(project.state_folder)) as job:
                jobs.run(job, lambda *_: None, override=True)
        yield Scene(shop=shop, other=other_process, project=project, store=store)


def test_a_destination_that_cannot_be_opened_stops_no_other(scene: Scene) -> None:
    with scene.serving() as serving:
        scene.leave()
        serving.came()
        assert scene.until_left()
        assert serving.healthy


def test_a_broken_mapping_stops_no_opt_out(scene: Scene) -> None:
    (scene.shop.folder / "mapping.yml").write_text("fields: [\n")
    with scene.serving() as serving:
        scene.leave()
        serving.came()
        assert scene.until_left()


def test_an_account_that_hangs_delays_no_other(scene: Scene) -> None:
    scene.shop.sandbox.settings(latency=3)
    with scene.serving() as serving:
        scene.leave()
        serving.came()
        assert scene.until_left()
        assert (
            scene.store.runs.newest(1, "newsletter")[0].status == "running"
        )  # it is still being asked who left
        scene.shop.sandbox.settings(latency=0)


def test_while_a_run_is_busy_with_something_else_opt_outs_are_sent_ahead_of_it(scene: Scene) -> None:
    with scene.serving() as serving:
        with scene.store.leases.hold("other"):
            scene.leave()
            serving.came()
            assert scene.until_left()
            assert len(scene.store.outbox.urgent("other", 10)) == 1  # whoever holds the lease confirms it
        deadline = monotonic() + PATIENCE
        while scene.store.outbox.urgent("other", 10) and monotonic() < deadline:
            sleep(0.02)
        assert scene.store.outbox.urgent("other", 10) == []
        key = scene.store.keys.address_key(FIRST)
        assert scene.store.destinations.states("other", [key]) == {key: ConsentState.UNSUBSCRIBED}


def test_each_run_of_a_long_process_has_figures_of_its_own(scene: Scene) -> None:
    with scene.serving() as serving:
        scene.leave()
        serving.came()
        assert scene.until_left()
    sent = [run for run in scene.store.runs.newest(10, "other") if run.kind == "opt_out"]
    assert [run.report["requests"]["write"] for run in sent] == [1]


def test_before_a_build_departures_count_and_after_it_they_are_sent(scene: Scene) -> None:
    there, aside = (scene.project.state_folder / name for name in ("snapshots", "aside"))
    there.rename(aside)
    key = scene.store.keys.address_key(FIRST)
    with scene.serving() as serving:
        scene.leave()
        serving.came()
        deadline = monotonic() + PATIENCE
        while scene.store.inbox.counts("newsletter").waiting and monotonic() < deadline:
            sleep(0.02)
        assert scene.store.destinations.states("newsletter", [key]) == {key: ConsentState.UNSUBSCRIBED}
        assert scene.mailed()
        aside.rename(there)
        assert scene.until_left()


def test_what_an_account_knows_is_asked_for_and_told_to_the_others(scene: Scene) -> None:
    """No webhook told of it."""
    scene.shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
    with scene.serving():
        assert scene.until_left()


def test_all_who_left_are_sent_ahead_of_a_run_however_many(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segue.sync.serving._AHEAD", 1)
    with scene.store.leases.hold("other"), scene.serving() as serving:
        scene.leave(FIRST, "c00001@shop.example")
        serving.came()
        assert scene.until_left()
        deadline = monotonic() + PATIENCE
        while scene.mailed("c00001@shop.example") and monotonic() < deadline:
            sleep(0.02)
        assert not scene.mailed("c00001@shop.example")
