"""Tells which traits look like personal data: by their names, and by what their values look like.

A guess for a person to judge, never a decision. Reads a snapshot; nothing is stored.
"""

import re
from collections.abc import Iterator
from typing import Final

from ...core.model import TraitType
from ...core.snapshot import Snapshot

# By the words of a name. Country and language are left out: hardly anybody is known by them.
_NAMES: Final = re.compile(
    r"(?:^|_)(?:e?mail|(?:first|last|full|given|family|sur|maiden|nick)_?name|name|phone|mobile|telephone|fax|street"
    r"|address|postal_?code|postcode|zip|city|town|birth\w*|dob|age|gender|sex|ip|ip_address|iban|bic|passport|ssn|tax_?id"
    r"|vat_?id|latitude|longitude|vorname|nachname|strasse|plz|ort|telefon|geburt\w*)(?:$|_)"
)
_VALUES: Final = (
    r"^[^@\s]+@[^@\s]+\.[^@\s]+$",
    r"^(\+|00)[0-9][0-9 ()/.-]{6,}$",
    r"^[0-9]{1,3}(\.[0-9]{1,3}){3}$",
    r"^[A-Z]{2}[0-9]{2}( ?[A-Z0-9]{4}){3,}",
)
_SHARE: Final = 0.5  # of the values
_KNOWN_BY: Final = frozenset({"contact_id", "email"})  # without these nobody could be written to


def looks_personal(name: str) -> bool:
    """Say whether a trait's name is one of personal data.

    >>> looks_personal("shipping_street"), looks_personal("orders_count")
    (True, False)
    """
    return _NAMES.search(name.lower()) is not None


def personal_traits(snapshot: Snapshot) -> Iterator[str]:
    """Give the traits with values that look like personal data, but for the two by which a contact is known."""
    con = snapshot.connect()
    try:
        for trait in snapshot.traits:
            if trait.name in _KNOWN_BY:
                continue
            column = f'"{trait.name}"'
            tests = (
                [f"avg(regexp_matches({column}, '{pattern}')::INT) >= {_SHARE}" for pattern in _VALUES]
                if trait.type is TraitType.TEXT
                else []
            )
            found = con.con.execute(
                f"SELECT count({column}), coalesce({' OR '.join(tests) or 'false'}, false) FROM profiles"
            ).fetchone()
            filled, is_like = found or (0, False)
            if filled and (is_like or looks_personal(trait.name)):
                yield trait.name
    finally:
        con.disconnect()
