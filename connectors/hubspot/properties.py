"""The contact properties of a portal: which there are, of which types, and making the missing ones of ours.

Nothing here changes or removes a property that exists, but for the options of our own tags; nothing knows of contacts.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ...core.errors import Problem, UnsupportedFeatureError
from ...core.model import FieldSpec, FieldType
from ..transport import RefusedRequestError
from .payload import CUSTOMER_ID, FIELD_TYPES, GROUP, OPT_OUT, TAGS, option, option_value, property_request
from .sdk import Endpoints

_CONTACTS: Final = "contacts"


class Properties:
    """Knows the properties from the last time that they were read."""

    def __init__(self, api: Endpoints) -> None:
        self._api = api
        self._known: dict[str, dict[str, Any]] | None = None

    def read(self) -> dict[str, dict[str, Any]]:
        """Read all properties, by name."""
        found = self._api.properties.get_all(_CONTACTS)["results"]
        self._known = {each["name"]: each for each in found}
        return self._known

    def known(self) -> dict[str, dict[str, Any]]:
        """Give the properties as last read, by name."""
        return self.read() if self._known is None else self._known

    def types(self) -> dict[str, FieldType | None]:
        """Give our word for each property's type, None for one that we never write."""
        return {
            name: None
            if _is_read_only(each) or name in {TAGS, CUSTOMER_ID}
            else FIELD_TYPES.get(each["type"])
            for name, each in self.known().items()
        }

    def custom(self) -> list[str]:
        """Give the names of the properties that are neither HubSpot's own nor ours for other purposes."""
        return [
            name
            for name, each in self.known().items()
            if not each.get("hubspotDefined") and name not in {TAGS, CUSTOMER_ID}
        ]

    def opt_outs(self) -> list[str]:
        """Give the names of the properties that mirror who opted out: of all mail, and of each type."""
        return [name for name in self.known() if name.startswith(OPT_OUT)]

    def unmade(self) -> int:
        """Say how many requests it takes to make what is ours besides fields and tags: the group and the customer's id."""
        return 0 if CUSTOMER_ID in self.known() else 2

    def tags(self) -> dict[str, str]:
        """Give our tags by the value of their option."""
        there = self.known().get(TAGS)
        return {each["value"]: each["label"] for each in there["options"]} if there else {}

    def refuse_lost(self, used: Iterable[str]) -> None:
        """Raise UnsupportedFeatureError when one of these properties is gone: no smaller batch would do then."""
        if lost := set(used) - self.read().keys():
            raise UnsupportedFeatureError(
                f"The portal has no {', '.join(sorted(lost))} any more. The next run makes missing properties again."
            ) from None

    def ensure(self, specs: Iterable[FieldSpec], tags: Iterable[str]) -> None:
        """Make the missing ones, or none when one clashes; then the options of our tags, where there are any."""
        wanted, there = list(specs), self.read()
        types = self.types()
        problems = [
            Problem(
                where=f"field {spec.tag}",
                message=f"it is {there[spec.tag]['type']} in the portal and {spec.type.value} in the mapping.",
                next_step="HubSpot cannot change a property's type: pin another tag in the mapping.",
            )
            for spec in wanted
            if spec.tag in there and types[spec.tag] is not spec.type
        ]
        if problems:
            raise UnsupportedFeatureError.of(problems)
        missing = [property_request(spec) for spec in wanted if spec.tag not in there]
        if CUSTOMER_ID not in there:
            missing.append(_CUSTOMER_ID)
        held = list(tags)
        if held and TAGS not in there:
            missing.append(_TAGS | {"options": [option(tag) for tag in held]})
        if self.unmade():
            self._make_group()
        for body in missing:
            self._make(body)
        if missing:
            self.read()
        self._add_options(held)

    def _make_group(self) -> None:
        try:
            self._api.groups.create(_CONTACTS, {"name": GROUP, "label": "Segue", "displayOrder": -1})
        except RefusedRequestError as error:
            if error.status != 409:  # it is there
                raise

    def _make(self, body: Mapping[str, Any]) -> None:
        try:
            self._api.properties.create(_CONTACTS, body)
        except RefusedRequestError:
            # The answer to an earlier attempt may have been lost after the property was made.
            made = self.read().get(body["name"])
            if made is None or made["type"] != body["type"]:
                raise

    def _add_options(self, tags: Iterable[str]) -> None:
        there = self.tags()
        if new := [option(tag) for tag in tags if option_value(tag) not in there]:
            options = [*self.known()[TAGS]["options"], *new]  # all of them: what is left out is taken away
            self._api.properties.update(_CONTACTS, TAGS, {"options": options})
            self.read()


_CUSTOMER_ID: Final = {
    "name": CUSTOMER_ID,
    "label": "Segue customer id",
    "type": "string",
    "fieldType": "text",
    "groupName": GROUP,
    "description": "Tells Segue's contacts apart, whatever their address.",
    "hasUniqueValue": True,
    "formField": False,
}
_TAGS: Final = {
    "name": TAGS,
    "label": "Segue segments",
    "type": "enumeration",
    "fieldType": "checkbox",
    "groupName": GROUP,
    "description": "The segments that the contact is in.",
    "formField": False,
}


def _is_read_only(each: Mapping[str, Any]) -> bool:
    rules = each.get("modificationMetadata") or {}
    return bool(rules.get("readOnlyValue")) or bool(each.get("calculated"))
