"""Klaviyo's endpoints over our transport: one pinned revision, JSON:API, and the limits of each endpoint.

No SDK: the vendor's installs a package `openapi_client` at the top level, which collides with every other generated
client, and sleeps inside its calls. Nothing about contacts is decided here.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from ...core.model import RateLimit
from ..limiter import Limiter
from ..transport import Transport
from ..verdicts import Dialect, Verdict

REVISION: Final = "2026-07-15"
"""What Klaviyo answers by; one lives two years: https://developers.klaviyo.com/en/docs/api_versioning_and_deprecation_policy."""

_MEDIA_TYPE: Final = "application/vnd.api+json"

# Of each endpoint by itself, a second and a minute (https://developers.klaviyo.com/en/docs/rate_limits_and_error_handling);
# the specification says 750 where the guide says 700.
_SIZES: Final = {"XS": (1, 15), "S": (3, 60), "M": (10, 150), "L": (75, 700), "XL": (350, 3500)}
_ENDPOINTS: Final = {
    "accounts": "XS",
    "profiles": "L",
    "profile": "L",
    "subscribe": "L",
    "unsubscribe": "L",
    "import": "M",
    "jobs": "M",
    "import-errors": "M",
    "erase": "S",
    "lists": "L",
    "make-list": "M",
    "members": "M",
    "metrics": "M",
    "events": "XL",
    "webhooks": "XS",
}


def rate_limits(size: str) -> tuple[RateLimit, RateLimit]:
    """Give the published limits of an endpoint of a size, such as "L"."""
    second, minute = _SIZES[size]
    return RateLimit(count=second, seconds=1), RateLimit(count=minute, seconds=60)


def lanes(concurrency: int, instead: tuple[RateLimit, ...]) -> dict[str, Limiter]:
    """Give a limiter for each endpoint, by the published limits, or by others in their place."""
    return {name: Limiter(concurrency, instead or rate_limits(size)) for name, size in _ENDPOINTS.items()}


def code_of(body: Any) -> str:
    """Give the code of an answer's first error."""
    return str(error_of(body).get("code", ""))


def error_of(body: Any) -> Mapping[str, Any]:
    """Give an answer's first error; empty where there is none."""
    errors = body.get("errors") if isinstance(body, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    return first if isinstance(first, dict) else {}


DIALECT: Final = Dialect(
    label="Klaviyo",
    media_type=_MEDIA_TYPE,
    headers={"revision": REVISION},
    # A 403 without an error of Klaviyo's own comes from the guard against robots before it, and passes.
    errors={(403, ""): Verdict.TRANSIENT},
    code_of=code_of,
)


class Api:
    """The calls. `lane` is the endpoint, as `_ENDPOINTS` names it; paths stand behind /api."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def get(self, lane: str, path: str, query: Mapping[str, str] | None = None) -> Any:
        """Read one document."""
        return self.transport.request("GET", f"/api{path}", params=query, lane=lane).body

    def pages(self, lane: str, path: str, query: Mapping[str, str]) -> Iterator[tuple[Any, str]]:
        """Read a listing page by page, each with the cursor of the next one, "" after the last."""
        cursor = query.get("page[cursor]", "")
        while True:
            place = {"page[cursor]": cursor} if cursor else {}
            page = self.get(lane, path, {**query, **place})
            cursor = _cursor((page.get("links") or {}).get("next"))
            yield page, cursor
            if not cursor:
                return

    def send(self, method: str, lane: str, path: str, data: Any, *, retry: bool = True) -> Any:
        """Send one document; `retry=False` where it may raise somebody's consent."""
        path = f"/api{path}"
        return self.transport.request(method, path, json={"data": data}, retry=retry, lane=lane).body

    def unsubscribe(self, job: Any) -> None:
        """Send a job that unsubscribes people."""
        self.send("POST", "unsubscribe", "/profile-subscription-bulk-delete-jobs", job)

    def delete(self, lane: str, path: str) -> None:
        """Delete what a path names."""
        self.transport.request("DELETE", f"/api{path}", lane=lane)


def _cursor(link: str | None) -> str:
    found = parse_qs(urlsplit(link or "").query).get("page[cursor]", [""])
    return found[0]
