"""HubSpot's official SDK with our transport underneath: its endpoints, none of its HTTP.

All patching of the SDK lives here and nothing about contacts does. As shipped (12.0.0) the SDK opens a connection pool
for every endpoint object, waits for ever, and knows the numbered paths alone. One subclass of its `ApiClient` replaces
the one method through which every endpoint goes; the dated paths are the same endpoints at another place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from hubspot.crm.contacts.api.basic_api import BasicApi
from hubspot.crm.contacts.api.batch_api import BatchApi
from hubspot.crm.contacts.api.search_api import SearchApi
from hubspot.crm.contacts.api_client import ApiClient
from hubspot.crm.lists.api.lists_api import ListsApi
from hubspot.crm.lists.api.memberships_api import MembershipsApi
from hubspot.crm.properties.api.core_api import CoreApi
from hubspot.crm.properties.api.groups_api import GroupsApi

from ..transport import Transport
from .paths import versioned

SEARCH = "search"
"""The lane of searches, which have a limit of their own."""


class _TransportClient(ApiClient):  # type: ignore[misc]  # the SDK ships no types
    """What the SDK's endpoints call instead of the network. Errors are the transport's; 204 gives None."""

    def __init__(self, transport: Transport, *, version: str, retry: bool) -> None:
        # The SDK's own would open a pool of connections.
        self.client_side_validation = False
        self._transport = transport
        self._version = version
        self._retry = retry

    def call_api(
        self,
        resource_path: str,
        method: str,
        path_params: Mapping[str, Any] | None = None,
        query_params: Sequence[tuple[str, Any]] | None = None,
        header_params: Mapping[str, str] | None = None,  # noqa: ARG002 - JSON both ways: the transport's own
        body: Any = None,
        **_: Any,
    ) -> Any:
        for name, value in (path_params or {}).items():
            resource_path = resource_path.replace(f"{{{name}}}", quote(str(value), safe=""))
        return self._transport.request(
            method,
            versioned(resource_path, self._version),
            params=list(_flat(query_params or ())),
            json=body,
            retry=self._retry,
            asks=resource_path.endswith(("/search", "/batch/read")),
            lane=SEARCH if resource_path.endswith("/search") else "",
        ).body


def _flat(query: Sequence[tuple[str, Any]]) -> Sequence[tuple[str, Any]]:
    return [
        (name, str(each).lower() if isinstance(each, bool) else each)
        for name, value in query
        for each in (value if isinstance(value, list) else [value])
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The endpoints that we use. `batch_once` is for requests that can raise consent: sent once at most."""

    contacts: Any
    batch: Any
    batch_once: Any
    search: Any
    properties: Any
    groups: Any
    lists: Any
    members: Any
    transport: Transport
    version: str

    def call(self, method: str, path: str, body: Any = None, *, retry: bool = True, **query: Any) -> Any:
        """Call what the SDK does not know, by its numbered path."""
        path = versioned(path, self.version)
        return self.transport.request(method, path, params=query, json=body, retry=retry).body


def endpoints(transport: Transport, *, version: str) -> Endpoints:
    """Give the endpoints, speaking through `transport` alone."""
    patient = _TransportClient(transport, version=version, retry=True)
    return Endpoints(
        contacts=BasicApi(patient),
        batch=BatchApi(patient),
        batch_once=BatchApi(_TransportClient(transport, version=version, retry=False)),
        search=SearchApi(patient),
        properties=CoreApi(patient),
        groups=GroupsApi(patient),
        lists=ListsApi(patient),
        members=MembershipsApi(patient),
        transport=transport,
        version=version,
    )
