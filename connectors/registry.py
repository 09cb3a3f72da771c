"""Which connectors there are, by the name that a destination in segue.yml gives. Imports none until it is asked for.

Nothing else about a connector may be said here: what it can do stands in its own class.
"""

from difflib import get_close_matches
from importlib import import_module
from typing import Final

from ..core.errors import ConfigError
from .base import Connector

CONNECTORS: Final = {"mailchimp": "mailchimp.connector:Mailchimp"}


def connector_class(name: str) -> type[Connector]:
    """Give the connector class of that name. Raises ConfigError naming those that exist."""
    try:
        module, _, attribute = CONNECTORS[name].partition(":")
    except KeyError:
        close = get_close_matches(name, CONNECTORS, n=1)
        hint = (
            f'Did you mean "{close[0]}"?' if close else f"Known connectors: {', '.join(sorted(CONNECTORS))}."
        )
        raise ConfigError(f'There is no connector "{name}". {hint}') from None
    found: type[Connector] = getattr(import_module(f".{module}", __package__), attribute)
    return found
