"""Pulls as tests make them, and what people do at Mailchimp in between."""

from contextlib import ExitStack

from segue.connectors.mailchimp.payload import subscriber_hash
from segue.sync import jobs
from segue.sync.report import Report

from ..shop import Shop

FIRST = "c00000@shop.example"
NEW = "new@shop.example"


def pull(shop: Shop, *, full: bool = False, override: bool = False) -> Report:
    shop.build()
    with ExitStack() as stack:
        return jobs.pull(shop.job(stack), lambda *_: None, full=full, override=override)


def move(shop: Shop, address: str, to: str) -> None:
    """Change a member's address at Mailchimp, as the person or a marketer there does."""
    shop.sandbox.sdk().lists.update_list_member(
        shop.sandbox.audience, subscriber_hash(address), {"email_address": to}
    )


def synced(shop: Shop) -> None:
    """Load the shop's customers and look at them once: only reading shows the ESP's own name for a contact."""
    shop.run()
    pull(shop)
