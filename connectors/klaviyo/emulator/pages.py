"""Pages of the emulated Klaviyo: a cursor stands for the last row that was shown, so nobody is lost between two pages.

Whoever changes between two pages of an order by change is shown again.
"""

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from ...emulator import Call
from .answers import invalid
from .timeline import Place

Row = tuple[Place, Any]


def after(call: Call) -> Place | None:
    """Read the place behind which a page begins, None for the first page; or refuse."""
    if (text := call.query.get("page[cursor]")) is None:
        return None
    try:
        instant, order = json.loads(base64.urlsafe_b64decode(text.encode()))
        at = datetime.fromisoformat(instant)
        if at.tzinfo is None or type(order) is not int:
            raise ValueError(text)  # noqa: TRY301 - one way out for every wrong cursor
    except (ValueError, TypeError):
        raise invalid("Invalid cursor.", parameter="page[cursor]") from None
    return at, order


def page(
    call: Call, rows: Iterable[Row], show: Callable[[Any], dict[str, Any]], *, size: int, **more: Any
) -> dict[str, Any]:
    """Give one page of rows, which begin behind the cursor; `size` is the default, the query's own wins."""
    wanted = int(call.query.get("page[size]", size))
    found = list(islice(rows, wanted + 1))
    links = {"self": _link(call, call.query)}
    if len(found) > wanted:
        (instant, order), _ = found[wanted - 1]
        cursor = base64.urlsafe_b64encode(json.dumps([instant.isoformat(), order]).encode()).decode()
        links["next"] = _link(call, {**call.query, "page[cursor]": cursor})
    return {"data": [show(row) for _, row in found[:wanted]], "links": links, **more}


def numbered(items: Sequence[Any], start: datetime, cursor: Place | None) -> Iterable[Row]:
    """Give the rows of something that is short and only grows, in its own order, behind a cursor."""
    first = 0 if cursor is None else cursor[1] + 1
    return (((start, number), items[number]) for number in range(max(0, first), len(items)))


def _link(call: Call, query: Mapping[str, str]) -> str:
    return call.base_url + call.path + (f"?{urlencode(query)}" if query else "")
