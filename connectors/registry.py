"""Which connectors there are, by the name that a destination in segue.yml gives. Imports none until it is asked for.

Ours are listed here; others come with the packages that are installed beside Segue, by the entry point group
`segue.connectors`. Nothing else about a connector may be said here: what it can do stands in its own class. One that
cannot be loaded is nobody's trouble but that of the destination that names it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from ..core.errors import ConfigError
from .base import Connector

GROUP: Final = "segue.connectors"
OURS: Final = {
    "csvfile": "csvfile:CsvFile",
    "hubspot": "hubspot.connector:HubSpot",
    "klaviyo": "klaviyo.connector:Klaviyo",
    "mailchimp": "mailchimp.connector:Mailchimp",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A connector that can be named. `package` is what brings it, with its version; "segue" for ours."""

    name: str
    package: str


def listed() -> list[Listed]:
    """Give all connectors by name, ours and others', loaded or not."""
    ours = [Listed(name=name, package="segue") for name in OURS]
    others = [Listed(name=name, package=_package(found[0])) for name, found in _others().items()]
    return sorted([*ours, *others], key=lambda each: (each.name, each.package))


def connector_class(name: str) -> type[Connector]:
    """Give the connector class of that name.

    Raises ConfigError naming those that exist, and saying what is wrong with one that cannot be loaded.
    """
    others = _others()
    if name in OURS:
        if name in others:
            raise ConfigError(
                f'{_package(others[name][0])} brings a connector "{name}", and Segue has one of that name itself.'
                f" Remove the package, or have it take another name in its entry point group {GROUP}."
            )
        module, _, attribute = OURS[name].partition(":")
        ours: type[Connector] = getattr(import_module(f".{module}", __package__), attribute)
        return ours
    if name not in others:
        known = sorted({*OURS, *others})
        close = get_close_matches(name, known, n=1)
        hint = f'Did you mean "{close[0]}"?' if close else f"Known connectors: {', '.join(known)}."
        raise ConfigError(f'There is no connector "{name}". {hint}')
    if len(others[name]) > 1:
        packages = " and ".join(_package(each) for each in others[name])
        raise ConfigError(f'{packages} both bring a connector "{name}". Remove one of them.')
    return _loaded(others[name][0])


def _loaded(entry: EntryPoint) -> type[Connector]:
    """Load another's connector. Whatever goes wrong in it is said, and by whom it comes."""
    where = f'The connector "{entry.name}" of {_package(entry)}'
    try:
        found = entry.load()
    except Exception as error:  # noqa: BLE001  # anything may be wrong in code that is not ours
        raise ConfigError(
            f"{where} cannot be loaded ({entry.value}): {type(error).__name__}: {error}. Update or remove the package."
        ) from None
    if not (isinstance(found, type) and issubclass(found, Connector)):
        raise ConfigError(f"{where} is no connector: {entry.value} is not a subclass of Connector.")
    if missing := sorted(found.__abstractmethods__):
        raise ConfigError(f"{where} is not whole: it lacks {', '.join(missing)}.")
    if getattr(found, "name", None) != entry.name:
        raise ConfigError(
            f'{where} calls itself "{getattr(found, "name", "")}": the two names must be the same.'
        )
    if not hasattr(found, "capabilities") or not hasattr(found, "label"):
        raise ConfigError(f"{where} does not say what it can do: it lacks `label` or `capabilities`.")
    return found


@cache
def _others() -> Mapping[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        found.setdefault(entry.name, []).append(entry)
    return found


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
