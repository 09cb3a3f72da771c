"""The property endpoints of the emulated HubSpot: read, make, change, archive, and their groups.

What a property accepts is in `definitions.py`. The name of an archived property stays taken: for how long, no source says.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...emulator import Answer, Call, RefusedError
from .account import Account
from .answers import (
    Json,
    answered,
    batch,
    body_of,
    error,
    flag,
    inputs_of,
    invalid,
    item_error,
    missing,
    text_in,
)
from .definitions import FIELD_TYPES, NAME, UNIQUE_PROPERTIES, Definition
from .paths import PROPERTIES, Endpoint, under

_CHANGEABLE = {
    "label": "label",
    "description": "description",
    "groupName": "group",
    "fieldType": "field_type",
}


class PropertyEndpoints:
    """Handlers over one account."""

    def __init__(self, account: Callable[[], Account]) -> None:
        self._current = account

    @property
    def _account(self) -> Account:
        return self._current()

    def endpoints(self) -> Sequence[Endpoint]:
        """Give method, path template and handler of each, the paths of single properties last."""
        acts = [
            ("GET", "", self._listing),
            ("POST", "", self._create),
            ("POST", "/batch/create", self._create_batch),
            ("POST", "/batch/read", self._read_batch),
            ("GET", "/groups", self._groups),
            ("POST", "/groups", self._create_group),
            ("GET", "/groups/{group_name}", self._group),
            ("GET", "/{name}", self._read),
            ("PATCH", "/{name}", self._change),
            ("DELETE", "/{name}", self._archive),
        ]
        return [each for method, rest, act in acts for each in under(PROPERTIES, method, rest, act)]

    def _listing(self, call: Call) -> Answer:
        definitions = self._account.definitions
        chosen = definitions.archived if flag(call, "archived") else definitions.active
        return answered({"results": [each.shown() for each in chosen.values()]})

    def _read(self, call: Call) -> Answer:
        return answered(self._definition_of(call, archived=flag(call, "archived")).shown())

    def _create(self, call: Call) -> Answer:
        return answered(self._make(call, body_of(call)).shown(), 201)

    def _create_batch(self, call: Call) -> Answer:
        made, errors = [], []
        for item in inputs_of(call, body_of(call)):
            try:
                made.append(self._make(call, item).shown())
            except RefusedError as refused:
                body = refused.answer.body
                names = {"name": [item["name"]]} if isinstance(item.get("name"), str) else {}
                errors.append(item_error(body["category"], body["message"], names))
        return batch(made, self._account.clock.now(), errors=errors, good=201)

    def _read_batch(self, call: Call) -> Answer:
        body, definitions = body_of(call), self._account.definitions
        chosen = definitions.archived if body.get("archived") is True else definitions.active
        names = [text_in(call, item, "name") for item in inputs_of(call, body)]
        found = [chosen[name].shown() for name in names if name in chosen]
        errors = [
            item_error("OBJECT_NOT_FOUND", f'Property "{name}" does not exist', {"name": [name]})
            for name in names
            if name not in chosen
        ]
        return batch(found, self._account.clock.now(), errors=errors)

    def _change(self, call: Call) -> Answer:
        definition, body = self._definition_of(call), body_of(call)
        if definition.ours:
            raise invalid(call, f"{definition.name} is defined by HubSpot and cannot be changed")
        kind = text_in(call, body, "type", fallback=definition.type)
        if kind != definition.type:
            raise invalid(call, "The type of a property cannot be changed")
        texts = {
            mine: text_in(call, body, name)
            for name, mine in _CHANGEABLE.items()
            if body.get(name) is not None
        }
        self._check_form(call, kind, texts.get("field_type", definition.field_type), texts.get("group"))
        if body.get("options") is not None:
            definition.options = _options(call, body)
        for name, text in texts.items():
            setattr(definition, name, text)
        definition.updated = self._account.clock.now()
        return answered(definition.shown())

    def _archive(self, call: Call) -> Answer:
        definition = self._definition_of(call)
        if definition.ours:
            raise invalid(call, f"{definition.name} is defined by HubSpot and cannot be archived")
        self._account.definitions.archive(definition.name, self._account.clock.now())
        return Answer(status=204)

    def _groups(self, _: Call) -> Answer:
        return answered({"results": [self._group_shown(name) for name in self._account.definitions.groups]})

    def _group(self, call: Call) -> Answer:
        name = call.parameters["group_name"]
        if name not in self._account.definitions.groups:
            raise missing(call, f'Group "{name}" does not exist')
        return answered(self._group_shown(name))

    def _create_group(self, call: Call) -> Answer:
        body, groups = body_of(call), self._account.definitions.groups
        name, label = text_in(call, body, "name"), text_in(call, body, "label")
        if NAME.fullmatch(name) is None:
            raise invalid(call, f"{name!r} is not a name: lower-case letters, digits and underscores")
        if name in groups:
            raise _taken(call, f'A group named "{name}" already exists')
        groups[name] = label
        return answered(self._group_shown(name), 201)

    def _group_shown(self, name: str) -> Json:
        label = self._account.definitions.groups[name]
        return {"archived": False, "name": name, "displayOrder": -1, "label": label}

    def _make(self, call: Call, body: Mapping[str, Any]) -> Definition:
        account, definitions = self._account, self._account.definitions
        name, label, kind, field_type, group = (
            text_in(call, body, each) for each in ("name", "label", "type", "fieldType", "groupName")
        )
        if NAME.fullmatch(name) is None:
            raise invalid(call, f"{name!r} is not a name: lower-case letters, digits and underscores")
        if name in definitions.active or name in definitions.archived:
            raise _taken(call, f'A property named "{name}" already exists')
        self._check_form(call, kind, field_type, group)
        options = _options(call, body)
        if (kind == "enumeration") is not bool(options):
            raise invalid(call, "Options belong to an enumeration, which needs at least one")
        unique = body.get("hasUniqueValue") is True
        if unique and len(definitions.unique) >= UNIQUE_PROPERTIES:
            raise invalid(call, f"At most {UNIQUE_PROPERTIES} properties can have unique values")
        now = account.clock.now()
        definition = Definition(
            name=name,
            label=label,
            type=kind,
            field_type=field_type,
            group=group,
            created=now,
            updated=now,
            description=text_in(call, body, "description", fallback=""),
            options=options,
            unique=unique,
            hidden=body.get("hidden") is True,
            form_field=body.get("formField") is True,
        )
        definitions.add(definition)
        if unique:
            account.records.track(name)
        return definition

    def _check_form(self, call: Call, kind: str, field_type: str, group: str | None) -> None:
        if kind not in FIELD_TYPES:
            raise invalid(call, f"type must be one of {', '.join(FIELD_TYPES)}")
        if field_type not in FIELD_TYPES[kind]:
            raise invalid(call, f"fieldType {field_type} does not fit the type {kind}")
        if group is not None and group not in self._account.definitions.groups:
            raise invalid(call, f'Group "{group}" does not exist')

    def _definition_of(self, call: Call, *, archived: bool = False) -> Definition:
        definitions, name = self._account.definitions, call.parameters["name"]
        found = (definitions.archived if archived else definitions.active).get(name)
        if found is None:
            raise missing(call, f'Property "{name}" does not exist')
        return found


def _options(call: Call, body: Mapping[str, Any]) -> list[Json]:
    raw = body.get("options") or []
    if not isinstance(raw, list) or not all(isinstance(option, dict) for option in raw):
        raise invalid(call, "Invalid input JSON: options must be a list of objects")
    options = [
        {
            "label": text_in(call, option, "label"),
            "value": text_in(call, option, "value"),
            "description": text_in(call, option, "description", fallback=""),
            "displayOrder": _whole_or(option.get("displayOrder"), -1),
            "hidden": option.get("hidden") is True,
        }
        for option in raw
    ]
    values = [str(option["value"]) for option in options]
    if len(set(values)) < len(values) or any(";" in value or not value for value in values):
        raise invalid(call, "Options need values of their own, without semicolons")
    return options


def _whole_or(value: Any, fallback: int) -> int:
    """Take a whole number, or what stands for none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else fallback


def _taken(call: Call, message: str) -> RefusedError:
    return RefusedError(error(409, "CONFLICT", message, number=call.number))
