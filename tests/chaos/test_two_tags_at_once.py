"""Two tags leave the same contacts by two batches: at the same time where an ESP keeps tags apart, else one by one."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError, Lock
from time import sleep
from typing import Any

import pytest

from segue.connectors.registry import connector_class
from segue.core.model import ContactState, Operation
from segue.sync import jobs
from segue.sync.delivery.courier import Courier, Delivery
from segue.sync.store.outbox_row import OutboxRow

from ..shop import SEGUE_YML, Shop
from ..sync.marketer import tag


@pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
def test_neither_brings_back_the_tag_that_the_other_took_off(shop: Shop) -> None:
    shop.batch_size = 2
    shop.stock(5)
    shop.customers["c00004"].spent = 200.0
    shop.run()
    for number in range(4):
        tag(shop, f"c0000{number}", segue_big=True)
    with ExitStack() as stack:
        jobs.verify(shop.job(stack), lambda *_: None, sample=None, dry_run=False)
    for number in range(4):
        shop.customers.pop(f"c0000{number}")
    carry, together = Courier.carry, Barrier(2)
    first: set[int] = set()

    def waits_for_the_other(self: Courier, rows: Sequence[OutboxRow], **more: Any) -> Delivery:
        delivery = carry(self, rows, **more)
        contacts = {row.contact_key for row in rows}
        if rows[0].operation is Operation.UNTAG and not first:
            first.update(contacts)  # the first batch of all goes alone
        elif rows[0].operation is Operation.UNTAG and first.isdisjoint(contacts):
            with suppress(BrokenBarrierError):
                together.wait(timeout=5)
        return delivery

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Courier, "carry", waits_for_the_other)
        shop.run()
    assert not together.broken
    with ExitStack() as stack:
        store = shop.job(stack).store
        keys = [store.keys.contact_key(f"c0000{number}") for number in range(4)]
        held = store.baselines.payloads("newsletter", keys)
    assert [ContactState.parse(text).tags for text in held.values()] == [frozenset()] * 4


def test_nobody_loses_two_tags_at_once_where_all_are_one_value(
    esp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = "  third: {{where: revenue < 0}}\n"
    monkeypatch.setattr("tests.shop.SEGUE_YML", SEGUE_YML.replace("destinations:", third + "destinations:"))
    shop = Shop(tmp_path, esp, "sqlite")
    shop.stock(5, segments=["big", "small", "third"])
    shop.run()
    assert {len(person.tags) for person in shop.people().values()} == {3}
    carry, lock, under_way = Courier.carry, Lock(), Counter[int]()
    at_once: list[int] = []

    def noted(self: Courier, rows: Sequence[OutboxRow], **more: Any) -> Delivery:
        contacts = [row.contact_key for row in rows]
        with lock:
            under_way.update(contacts)
            at_once.append(max(under_way.values()))
        sleep(0.05)
        try:
            return carry(self, rows, **more)
        finally:
            with lock:
                under_way.subtract(contacts)

    monkeypatch.setattr(Courier, "carry", noted)
    for customer in shop.customers.values():
        customer.segments = []
    assert shop.run().exit_code == 0
    assert {person.tags for person in shop.people().values()} == {frozenset()}
    assert max(at_once) == (1 if connector_class(esp.connector).capabilities.tags_as_one else 2)
