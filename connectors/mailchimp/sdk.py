"""Mailchimp's official SDK with our transport underneath: its endpoints, none of its HTTP.

All patching of the SDK lives here and nothing about contacts does. As shipped (3.0.80) the SDK opens a socket per
call, replaces the text "server" anywhere in a URL, and returns error answers without a body as if they were results.
One subclass of its `ApiClient` replaces the one method through which every endpoint goes, so none of that code runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from mailchimp_marketing.api.lists_api import ListsApi
from mailchimp_marketing.api.reports_api import ReportsApi
from mailchimp_marketing.api.root_api import RootApi
from mailchimp_marketing.api_client import ApiClient

from ..transport import Transport


class _TransportClient(ApiClient):  # type: ignore[misc]  # the SDK ships no types
    """What the SDK's endpoints call instead of the network. Errors are the transport's; 204 gives None."""

    def __init__(self, transport: Transport, *, retry: bool) -> None:
        super().__init__()
        self._transport = transport
        self._retry = retry

    def call_api(
        self,
        resource_path: str,
        method: str,
        path_params: Mapping[str, Any] | None = None,
        query_params: Sequence[tuple[str, Any]] | None = None,
        header_params: Mapping[str, str] | None = None,  # noqa: ARG002 - JSON both ways: the transport's own
        body: Any = None,
        collection_formats: Mapping[str, str] | None = None,
        **_: Any,
    ) -> Any:
        for name, value in (path_params or {}).items():
            resource_path = resource_path.replace(f"{{{name}}}", quote(str(value), safe=""))
        query = [
            (name, str(value).lower() if isinstance(value, bool) else value)
            for name, value in self.parameters_to_tuples(query_params or [], collection_formats)
        ]
        # As it is: our bodies are plain JSON, and the SDK's look at every value costs more than writing them down.
        return self._transport.request(method, resource_path, params=query, json=body, retry=self._retry).body


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The SDK's endpoints that we use. `lists_once` is for requests that can raise consent: sent once at most."""

    root: Any
    lists: Any
    lists_once: Any
    reports: Any


def endpoints(transport: Transport) -> Endpoints:
    """Give the SDK's endpoints, speaking through `transport` alone."""
    patient = _TransportClient(transport, retry=True)
    return Endpoints(
        root=RootApi(patient),
        lists=ListsApi(patient),
        lists_once=ListsApi(_TransportClient(transport, retry=False)),
        reports=ReportsApi(patient),
    )
