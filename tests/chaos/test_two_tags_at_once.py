"""Two tags leave the same contacts by two batches that are under way at the same time."""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest

from segue.core.model import ContactState, Operation
from segue.sync import jobs
from segue.sync.delivery.courier import Courier, Delivery
from segue.sync.store.outbox import OutboxRow

from ..shop import Shop
from ..sync.marketer import tag

pytestmark = pytest.mark.parametrize("shop", ["sqlite"], indirect=True)


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
