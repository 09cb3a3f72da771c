"""The emulated Klaviyo's profiles: identifiers, attributes, properties, and what each kind of write does to them.

No HTTP here; what may be mailed is in `standing.py`. Settled by sources: null clears, absent leaves; e-mail and phone of two
profiles are a conflict; one wrong phone number refuses the whole profile. Unsettled: addresses are kept in lower case;
at the worst `append` keeps what is there already a second time.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .standing import Standing, Standings
from .timeline import Timeline

IDENTIFIERS = ("email", "phone_number", "external_id")
ATTRIBUTES = ("first_name", "last_name", "organization", "locale", "title", "image")
LOCATION = (
    "address1",
    "address2",
    "city",
    "country",
    "latitude",
    "longitude",
    "region",
    "zip",
    "timezone",
    "ip",
)
_ADDRESS = re.compile(r"[^\s@,;:<>()\[\]\"\\]+@[^\s@.]+(\.[^\s@.]+)+")
_PHONE = re.compile(r"\+[1-9]\d{6,14}")  # E.164


class ProfileError(Exception):
    """A refused write of one profile; `pointer` leads from its resource to what is wrong."""

    def __init__(
        self, status: int, code: str, title: str, detail: str, *, pointer: str, duplicate: str | None = None
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.pointer = pointer
        self.duplicate = duplicate


@dataclass(slots=True)
class Profile:
    """One profile. `lists` says since when it is on each; `former` is the standing of the address before, if it had one."""

    id: str
    created: datetime
    updated: datetime
    values: dict[str, Any] = field(default_factory=dict)  # identifiers and attributes that are not null
    location: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)
    lists: dict[str, datetime] = field(default_factory=dict)
    standing: Standing | None = None
    former: Standing | None = None
    last_event: datetime | None = None

    @property
    def email(self) -> str | None:
        """The address, in lower case."""
        return self.values.get("email")


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """The circumstances of one write. `request` is None where a person acts; `worst` stands for the adversarial mode."""

    now: datetime
    request: int | None
    worst: bool
    held: bool = False


class Profiles:
    """All profiles, by id, by identifier, and in the orders in which they are read."""

    def __init__(self, standings: Standings) -> None:
        self._standings = standings
        self.by_id: dict[str, Profile] = {}
        self._by: dict[str, dict[str, Profile]] = {name: {} for name in IDENTIFIERS}
        self._made = 0
        self.created = Timeline()
        self.updated = Timeline()

    def by(self, identifier: str, value: str) -> Profile | None:
        """Find the profile with this e-mail address, phone number or external id."""
        return self._by[identifier].get(value.lower() if identifier == "email" else value)

    def matches(self, values: Mapping[str, Any]) -> list[Profile]:
        """Give the profiles that some identifiers lead to, each once, by e-mail address first."""
        found: dict[str, Profile] = {}
        for name in IDENTIFIERS:
            if (value := values.get(name)) is not None and (profile := self.by(name, value)) is not None:
                found[profile.id] = profile
        return list(found.values())

    def create(self, attributes: Mapping[str, Any], write: Write) -> Profile:
        """Make a profile. Raises ProfileError when it is wrong, or when one of its identifiers is taken."""
        values = checked(attributes)
        if held := self.matches(values):
            raise _conflict(held[0])
        if not any(values.get(name) for name in IDENTIFIERS):
            raise _no_identifier()
        self._made += 1
        profile = Profile(f"01SANDBOX{self._made:017d}", write.now, write.now)
        self.by_id[profile.id] = profile
        self.created.put(profile.id, write.now)
        self._apply(profile, values, attributes, {}, write)
        return profile

    def update(
        self, profile: Profile, attributes: Mapping[str, Any], patch: Mapping[str, Any], write: Write
    ) -> None:
        """Change a profile; `patch` is `patch_properties`. Raises ProfileError, and then changes nothing."""
        values = checked(attributes)
        for other in self.matches(values):
            if other is not profile:
                raise _conflict(other)
        if not any(values.get(name, profile.values.get(name)) for name in IDENTIFIERS):
            raise _no_identifier()
        self._apply(profile, values, attributes, patch, write)

    def upsert(
        self,
        attributes: Mapping[str, Any],
        patch: Mapping[str, Any],
        write: Write,
        *,
        name: str | None = None,
    ) -> tuple[Profile, bool]:
        """Change the profile that id or identifiers lead to, or make one; say whether it is new. Raises ProfileError."""
        if name is not None:
            if (profile := self.by_id.get(name)) is None:
                raise ProfileError(404, "not_found", "Not found.", f"No profile {name}.", pointer="/id")
        else:
            found = self.matches(checked(attributes))
            if len(found) > 1:
                raise _conflict(found[1])
            if not found:
                profile = self.create(attributes, write)
                _patch_properties(profile.properties, patch, worst=write.worst)
                return profile, True
            profile = found[0]
        self.update(profile, attributes, patch, write)
        return profile, False

    def touch(self, profile: Profile, now: datetime) -> None:
        """Note that something about a profile changed, its consent too, or that it was written without changing."""
        profile.updated = now
        self.updated.put(profile.id, now)

    def merge(self, source: Profile, target: Profile, write: Write) -> None:
        """Put one profile into another and delete it; what the target has stays, what it lacks is taken over.

        Unsettled, and taken for the worst: if one of the two could be mailed, the merged one can, with its consent.
        """
        self.drop(source)
        values = {**source.values, **target.values}
        for name in IDENTIFIERS:
            self._place(target, name, values.get(name))
        target.values = values
        if target.standing is None:
            target.standing = source.standing
        elif source.standing is not None:
            self._standings.blend(target.standing, source.standing, now=write.now, request=write.request)
        target.location = {**source.location, **target.location}
        target.properties = {**source.properties, **target.properties}
        self.touch(target, write.now)

    def drop(self, profile: Profile) -> None:
        """Delete a profile; its address keeps its standing."""
        for name in IDENTIFIERS:
            self._place(profile, name, None)
        del self.by_id[profile.id]
        self.created.drop(profile.id)
        self.updated.drop(profile.id)

    def _readdress(self, profile: Profile, address: str | None, write: Write) -> None:
        before = profile.standing or profile.former
        profile.former = before
        if address is None:
            profile.standing = None
        else:
            profile.standing = self._standings.join(
                address, request=write.request, before=before, held=write.held
            )

    def _place(self, profile: Profile, name: str, value: str | None) -> None:
        held = profile.values.get(name)
        if held is not None and self._by[name].get(held) is profile:
            del self._by[name][held]
        if value is not None:
            self._by[name][value] = profile

    def _apply(
        self,
        profile: Profile,
        values: Mapping[str, Any],
        attributes: Mapping[str, Any],
        patch: Mapping[str, Any],
        write: Write,
    ) -> None:
        for name in IDENTIFIERS:
            if name in values:
                self._place(profile, name, values[name])
        if "email" in values and values["email"] != profile.email:
            self._readdress(profile, values["email"], write)
        _merge(profile.values, values)
        if "location" in attributes:
            _merge(profile.location, attributes["location"] or dict.fromkeys(LOCATION))
        if "properties" in attributes:
            _merge(profile.properties, attributes["properties"] or {})
        _patch_properties(profile.properties, patch, worst=write.worst)
        self.touch(profile, write.now)


def _merge(held: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Null clears, absent leaves."""
    for name, value in given.items():
        if value is None:
            held.pop(name, None)
        else:
            held[name] = value


def _patch_properties(held: dict[str, Any], patch: Mapping[str, Any], *, worst: bool) -> None:
    """Add to list properties, take out of them, and remove properties."""
    for name, value in (patch.get("append") or {}).items():
        present = _list(held.get(name))
        held[name] = present + [each for each in _list(value) if worst or each not in present]
    for name, value in (patch.get("unappend") or {}).items():
        if name in held:
            unwanted = _list(value)
            held[name] = [each for each in _list(held[name]) if each not in unwanted]
    unset = patch.get("unset") or []
    for name in [unset] if isinstance(unset, str) else unset:
        held.pop(name, None)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def checked(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Give identifiers and attributes as they are kept. Raises ProfileError for a wrong one."""
    kept = {name: attributes[name] for name in (*IDENTIFIERS, *ATTRIBUTES) if name in attributes}
    if (address := kept.get("email")) is not None:
        kept["email"] = address = address.strip().lower()
        if not _ADDRESS.fullmatch(address) or len(address) > 254:
            raise _wrong("email", "Invalid email address")
    if (phone := kept.get("phone_number")) is not None and not _PHONE.fullmatch(phone):
        raise _wrong("phone_number", "Invalid phone number format (Example of a valid format: +12345678901)")
    if kept.get("external_id") == "":
        raise _wrong("external_id", "external_id must not be empty.")
    return kept


def _wrong(name: str, detail: str) -> ProfileError:
    return ProfileError(400, "invalid", "Invalid input.", detail, pointer=f"/attributes/{name}")


def _no_identifier() -> ProfileError:
    detail = "One or more of the following identifiers is required: email, phone_number, external_id."
    return ProfileError(400, "invalid", "Invalid input.", detail, pointer="/attributes")


def _conflict(held: Profile) -> ProfileError:
    return ProfileError(
        409,
        "duplicate_profile",
        "Conflict.",
        "A profile already exists with one of these identifiers.",
        pointer="/attributes",
        duplicate=held.id,
    )
