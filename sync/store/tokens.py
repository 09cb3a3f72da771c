"""The tokens by which people and programs are let into the API, each with a role.

What a role may see is decided where it is shown.

Decisions. A token is 256 random bits, shown once and kept as its SHA-256. A slow hash protects what people choose and can
be guessed; nobody guesses this, and a slow one would only let strangers keep the server busy. It has no end of its own:
`revoke` ends it at once, also for a server that runs.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import sqlalchemy as sa

from ...core.errors import ConfigError
from .audit import Audit
from .database import Database, insert
from .schema import token as tokens

_PREFIX: Final = "segue_"  # what secret scanners, and people who find one, know it by
_BYTES: Final = 32


class Role(StrEnum):
    """Who somebody is to the API."""

    ADMIN = "admin"
    MARKETER = "marketer"  # sees no raw address


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as it is kept: not the secret itself."""

    name: str
    role: Role
    made_at: datetime


class Tokens:
    """Makes, recognises and ends tokens. Any process may."""

    def __init__(self, database: Database, audit: Audit, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock

    def create(self, name: str, role: Role) -> str:
        """Make a token and give its secret, which nobody can see again. Raises ConfigError when the name is taken."""
        secret = _PREFIX + secrets.token_urlsafe(_BYTES)
        row = {"name": name, "role": role.value, "token_hash": _hash(secret), "made_at": self._clock()}
        with self._database.write() as connection:
            build = insert(connection, tokens, on_conflict="ignore").returning(tokens.c.name)
            made = connection.execute(build, row).first()
            if made is not None:
                self._audit.append(connection, "token made", detail={"name": name, "role": role.value})
        if made is None:
            raise ConfigError(f'There is a token "{name}" already. Revoke it first, or choose another name.')
        return secret

    def all(self) -> list[Token]:
        """Give every token, by name."""
        query = sa.select(tokens.c.name, tokens.c.role, tokens.c.made_at).order_by(tokens.c.name)
        with self._database.read() as connection:
            return [
                Token(name=name, role=Role(role), made_at=made_at)
                for name, role, made_at in connection.execute(query)
            ]

    def revoke(self, name: str) -> bool:
        """End a token; say whether there was one."""
        with self._database.write() as connection:
            ended = connection.execute(sa.delete(tokens).where(tokens.c.name == name)).rowcount > 0
            if ended:
                self._audit.append(connection, "token revoked", detail={"name": name})
            return ended

    def recognise(self, secret: str) -> Token | None:
        """Give the token of a secret, None for nobody's. All are compared, so that time tells nothing."""
        given, found = _hash(secret), None
        with self._database.read() as connection:
            for row in connection.execute(sa.select(tokens)):
                if hmac.compare_digest(row.token_hash, given):
                    found = Token(name=row.name, role=Role(row.role), made_at=row.made_at)
        return found


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()
