"""The property endpoints of the emulated HubSpot: definitions, groups, and the options of those that have some."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...emulator import Answer, Call, Handler, RefusedError
from .answers import invalid, missing, object_of, problem
from .portal import Portal
from .values import NAME, TYPES, Property

BASE = "/crm/v3/properties/contacts"
_UNIQUE = 10  # properties with unique values
_READ_ONLY = "hs_"


class PropertyEndpoints:
    """Handlers over one portal."""

    def __init__(self, portal: Callable[[], Portal]) -> None:
        self._current = portal

    @property
    def _portal(self) -> Portal:
        return self._current()

    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        """Give method, numbered path template and handler of each."""
        return [
            ("GET", BASE, self._list),
            ("POST", BASE, self._create),
            ("POST", f"{BASE}/batch/create", self._create_batch),
            ("GET", f"{BASE}/groups", self._groups),
            ("POST", f"{BASE}/groups", self._create_group),
            ("GET", f"{BASE}/{{name}}", self._read),
            ("PATCH", f"{BASE}/{{name}}", self._change),
            ("DELETE", f"{BASE}/{{name}}", self._archive),
        ]

    def _list(self, _: Call) -> Answer:
        return Answer(body={"results": [each.shown() for each in self._portal.properties.values()]})

    def _read(self, call: Call) -> Answer:
        return Answer(body=self._one(call).shown())

    def _create(self, call: Call) -> Answer:
        return Answer(status=201, body=self._made(call, object_of(call)).shown())

    def _create_batch(self, call: Call) -> Answer:
        made = [self._made(call, item) for item in object_of(call).get("inputs") or ()]
        return Answer(status=201, body={"status": "COMPLETE", "results": [each.shown() for each in made]})

    def _change(self, call: Call) -> Answer:
        found, body = self._one(call), object_of(call)
        if found.own:
            raise invalid(call, "a property of HubSpot's own cannot be changed")
        if body.get("type", found.type) != found.type:
            raise invalid(call, "the type of a property cannot be changed")
        found.label = body.get("label", found.label)
        found.description = body.get("description", found.description)
        if "options" in body:
            found.options = _options(call, body)
        return Answer(body=found.shown())

    def _archive(self, call: Call) -> Answer:
        found = self._one(call)
        if found.own:
            raise invalid(call, "a property of HubSpot's own cannot be archived")
        del self._portal.properties[found.name]
        for each in self._portal.records.values():
            each.properties.pop(found.name, None)
        return Answer(status=204)

    def _groups(self, _: Call) -> Answer:
        found = [{"name": name, "label": label} for name, label in self._portal.groups.items()]
        return Answer(body={"results": found})

    def _create_group(self, call: Call) -> Answer:
        body = object_of(call)
        name = str(body.get("name", ""))
        if name in self._portal.groups:
            raise _conflict(call, f"A property group named {name} already exists")
        self._portal.groups[name] = str(body.get("label", name))
        shown = {"name": name, "label": self._portal.groups[name], "displayOrder": -1, "archived": False}
        return Answer(status=201, body=shown)

    def _made(self, call: Call, body: Mapping[str, Any]) -> Property:
        name, kind = str(body.get("name", "")), body.get("type")
        if not NAME.fullmatch(name) or name.startswith(_READ_ONLY):
            raise invalid(call, f"{name} cannot be the name of a property")
        if name in self._portal.properties:
            raise _conflict(call, f"A property named {name} already exists")
        if kind not in TYPES or not body.get("label") or not body.get("fieldType"):
            raise invalid(call, "name, label, type and fieldType are needed")
        if body.get("groupName") not in self._portal.groups:
            raise invalid(call, f"no such group: {body.get('groupName')}")
        unique = bool(body.get("hasUniqueValue"))
        if unique and sum(each.unique for each in self._portal.properties.values()) >= _UNIQUE:
            raise invalid(call, f"at most {_UNIQUE} properties have unique values")
        made = Property(
            name=name,
            label=body["label"],
            type=kind,
            field_type=body["fieldType"],
            group=body["groupName"],
            description=body.get("description", ""),
            options=_options(call, body) if kind == "enumeration" else [],
            unique=unique,
        )
        self._portal.properties[name] = made
        return made

    def _one(self, call: Call) -> Property:
        found = self._portal.properties.get(call.parameters["name"])
        if found is None:
            raise missing(call)
        return found


def _options(call: Call, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    options: list[dict[str, Any]] = body.get("options") or []
    values = [each.get("value") for each in options]
    if not all(values) or len(set(values)) < len(values):
        raise invalid(call, "options need values, each another one")
    if any(";" in str(value) for value in values):
        raise invalid(call, "an option's value has no semicolon")
    return [
        {
            "label": each.get("label", each["value"]),
            "value": each["value"],
            "displayOrder": -1,
            "hidden": bool(each.get("hidden")),
        }
        for each in options
    ]


def _conflict(call: Call, message: str) -> RefusedError:
    return RefusedError(problem(409, "CONFLICT", message, number=call.number))
