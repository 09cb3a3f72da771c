"""HubSpot's contacts as they are read: all that changed, or those of some addresses, which are not their names there.

https://developers.hubspot.com/docs/api-reference/latest/crm/objects/contacts/guide. A contact's name is its record id,
which a merge changes; an address finds it, and one that it has beside its first finds it too.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ...core.model import Change, RemoteContact
from ..base import Page
from .pages import changes as changed_pages
from .payload import STATE_PROPERTIES, TAGS, remote_contact
from .properties import Properties
from .sdk import Endpoints
from .settings import LARGEST_BATCH


class Records:
    """The records of one portal."""

    def __init__(self, api: Endpoints, properties: Properties) -> None:
        self._api = api
        self._properties = properties

    def pages(self, cursor: str | None, *, only: Collection[str] | None) -> Iterator[Page]:
        """Give pages of contacts: everyone, or whoever changed since."""
        fields = self._fields(only)
        for records, reached in changed_pages(self._api, cursor, self._asked(fields)):
            found = [self._contact(record, fields) for record in records]
            yield Page(contacts=[contact for contact in found if contact.address], cursor=reached)

    def read(self, addresses: Sequence[str]) -> list[RemoteContact | None]:
        """Read contacts by address, in order."""
        fields = self._fields(None)
        found: dict[str, RemoteContact] = {}
        for record in self.raw(addresses, self._asked(fields)):
            contact = self._contact(record, fields)
            found[contact.address.lower()] = contact
        return [found.get(address.lower()) for address in addresses]

    def find(self, address: str) -> RemoteContact | None:
        """Read one contact."""
        return self.read([address])[0]

    def ids(self, changes: Sequence[Change]) -> dict[int, str]:
        """Give the record ids of contacts, by key; those that nobody told are looked up by address."""
        ids = {change.contact_key: change.record_id for change in changes if change.record_id}
        unknown = [change for change in changes if not change.record_id]
        if unknown:
            found = {
                record["properties"]["email"]: record["id"]
                for record in self.raw([change.address for change in unknown], ["email"])
            }
            ids |= {
                change.contact_key: found[change.address.lower()]
                for change in unknown
                if change.address.lower() in found
            }
        return ids

    def raw(self, addresses: Sequence[str], properties: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Read records by address as they come; one that has an address beside its first is left out."""
        wanted = sorted({address.lower() for address in addresses})
        for start in range(0, len(wanted), LARGEST_BATCH):
            some = wanted[start : start + LARGEST_BATCH]
            answer = self._api.batch.read(
                {
                    "idProperty": "email",
                    "inputs": [{"id": address} for address in some],
                    "properties": list(properties),
                    "propertiesWithHistory": [],
                }
            )
            yield from (
                record for record in answer["results"] if (record["properties"].get("email") or "") in some
            )

    def _contact(self, record: Mapping[str, Any], fields: Collection[str]) -> RemoteContact:
        return remote_contact(record, fields=fields, names=self._properties.tags())

    def _fields(self, only: Collection[str] | None) -> Sequence[str]:
        return self._properties.custom() if only is None else list(only)

    def _asked(self, fields: Collection[str]) -> list[str]:
        return [*dict.fromkeys((*STATE_PROPERTIES, *self._properties.opt_outs(), TAGS, *fields))]
