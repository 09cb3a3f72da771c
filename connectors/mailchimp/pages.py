"""Reading Mailchimp's collections whole: page after page, by offset, although they change while they are read.

Which collection, and what its items mean, is the connector's business.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from ...core.errors import ConfigError
from ..transport import RefusedRequestError
from .payload import timestamp

PAGE_SIZE: Final = 1000
STATE_FIELDS: Final = ("email_address", "status", "last_changed", "timestamp_opt", "contact_id")
MEMBER_FIELDS: Final = (*STATE_FIELDS, "merge_fields", "tags", "tags_count")

_Item = dict[str, Any]


def of_audience(endpoint: Callable[..., Any], audience: str) -> Callable[..., Any]:
    """Bind an endpoint to an audience whose absence alone can make it answer 404: that is ConfigError then."""

    def call(*arguments: Any, **query: Any) -> Any:
        try:
            return endpoint(audience, *arguments, **query)
        except RefusedRequestError as error:
            if error.status != 404:
                raise
            raise ConfigError(
                f'The Mailchimp account has no audience "{audience}". The id stands in Mailchimp under Audience, '
                "Settings, Audience name and defaults; put it in the destination's settings."
            ) from None

    return call


def items(
    endpoint: Callable[..., Any], audience: str, key: str, fields: Sequence[str], **query: Any
) -> Iterator[_Item]:
    """Give every item of a small collection; only `fields` of each are asked for."""
    projection = [f"{key}.{name}" for name in fields]
    read = of_audience(endpoint, audience)
    offset = 0
    while True:
        page = read(fields=projection, count=PAGE_SIZE, offset=offset, **query)[key]
        yield from page
        if len(page) < PAGE_SIZE:
            return
        offset += PAGE_SIZE


def members(
    endpoint: Callable[..., Any],
    audience: str,
    *,
    since: datetime | None,
    status: str | None,
    fields: Sequence[str] = STATE_FIELDS,
) -> Iterator[list[_Item]]:
    """Give pages of members, oldest change first; `status` None is all that Mailchimp shows unasked.

    Only `fields` of each are asked for, of which STATE_FIELDS are always some.

    Offsets shift when a member of an earlier page changes or goes, and whoever slides across the edge is never seen.
    Each page therefore begins with the last member of the one before; where it does not, reading starts again just
    before that member's second. So a member may come twice, and none is missed. Starting again must get further than
    the time before: the order among members of one second is not promised, and would keep us here for ever.
    """
    query: dict[str, Any] = {"status": status} if status else {}
    read = of_audience(endpoint, audience)
    last: _Item | None = None
    offset = 0
    while True:
        if since is not None:
            query["since_last_changed"] = timestamp(since)
        page = read(
            fields=[f"members.{name}" for name in fields],
            sort_field="last_changed",
            sort_dir="ASC",
            count=PAGE_SIZE,
            offset=offset,
            **query,
        )["members"]
        joined = last is not None and bool(page) and page[0]["email_address"] == last["email_address"]
        if last is not None and not joined:
            again = datetime.fromisoformat(last["last_changed"]) - timedelta(seconds=1)
            if since is None or again > since:
                since, offset, last = again, 0, None
                continue
        if fresh := page[1:] if joined else page:
            yield fresh
        if len(page) < PAGE_SIZE:
            return
        last, offset = page[-1], offset + PAGE_SIZE - 1
