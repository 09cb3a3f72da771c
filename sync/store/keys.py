"""Contact keys: the keyed hashes under which the store knows people, in Python and the same in DuckDB's SQL.

No table and no connection to the store is here.

A key is the first 63 bits of HMAC-SHA256, so that it fits a signed BIGINT; that two of ten million contacts share one
has a chance of 1 in 180,000. Without the secret nobody can find a person in the store by trying ids or addresses, as
with a plain hash. DuckDB has no HMAC, but HMAC is two rounds of SHA-256 over the padded secret, so that no Python
function is called per row.
"""

import hmac
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import duckdb

from ...core.errors import ConfigError, StoreError

SubjectKind = Literal["contact", "address"]

_BLOCK: Final = 64  # bytes that SHA-256 works on at a time; HMAC pads its key to it
_BYTES: Final = 32


class ContactKeys:
    """Turns contact ids and addresses into keys. `secret` has 32 bytes; it is never printed."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != _BYTES:
            raise ValueError(f"a contact key's secret has {_BYTES} bytes, this one {len(secret)}")
        self._secret = secret

    @classmethod
    def parse(cls, text: str) -> "ContactKeys":
        """Read the secret as 64 hexadecimal digits. Raises ConfigError, which does not repeat them."""
        with suppress(ValueError):
            return cls(bytes.fromhex(text.strip()))
        raise ConfigError(
            f"contact_key: the secret must be {2 * _BYTES} hexadecimal digits. "
            "Restore the right one, or for a new store make one with `openssl rand -hex 32`."
        )

    def contact_key(self, contact_id: str) -> int:
        """Give the key of a contact, from 0 to 2**63 - 1."""
        return self._key("contact", contact_id)

    def address_key(self, address: str) -> int:
        """Give the key of an e-mail address; spaces around it and case make no difference."""
        return self._key("address", _lower(address.strip(" ")))

    def sql(self, column: str, kind: SubjectKind) -> str:
        """Give `contact_key` or `address_key` of a text column as a DuckDB expression of type BIGINT; null stays null.

        The expression holds what the secret can be used by: run it through `install` where an error message may
        quote the statement.
        """
        text = column
        if kind == "address":  # few have spaces, and to look for them costs a fifth of trimming
            text = f"lower(CASE WHEN contains({column}, ' ') THEN trim({column}, ' ') ELSE {column} END)"
        inner = f"unhex('{self._pad(0x36).hex()}{kind.encode().hex()}00') || encode({text})"
        outer = f"unhex('{self._pad(0x5C).hex()}') || unhex(sha256({inner}))"
        return f"(('0x' || substr(sha256({outer}), 1, 16))::UBIGINT >> 1)::BIGINT"

    def install(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Define `contact_key(text)` and `address_key(text)` on a DuckDB connection, so that no query holds the secret.

        From Ibis they are builtin scalar functions: `@ibis.udf.scalar.builtin def contact_key(value: str) -> int`.
        """
        for kind in ("contact", "address"):
            expression = self.sql("subject", "address" if kind == "address" else "contact")
            connection.execute(f"create or replace temp macro {kind}_key(subject) as {expression}").fetchall()

    def fingerprint(self) -> str:
        """Give a text that tells this secret from others and gives nothing of it away."""
        return hmac.digest(self._secret, b"fingerprint\0", "sha256").hex()[:32]

    def derived(self, purpose: str) -> bytes:
        """Give another secret of 32 bytes, for one purpose; neither can be told from the other."""
        return hmac.digest(self._secret, f"derived\0{purpose}".encode(), "sha256")

    def _key(self, kind: SubjectKind, text: str) -> int:
        digest = hmac.digest(self._secret, f"{kind}\0{text}".encode(), "sha256")
        return int.from_bytes(digest[:8], "big") >> 1

    def _pad(self, mask: int) -> bytes:
        return bytes(byte ^ mask for byte in self._secret.ljust(_BLOCK, b"\0"))


def load_or_create_key(path: Path, *, new_store: bool) -> ContactKeys:
    """Read the secret from a file; for a new store make the file, for this user alone (mode 0600).

    Raises ConfigError when an old store's file is missing: with another secret it would take everybody for new.
    """
    try:
        if new_store and not path.exists():
            _create(path, secrets.token_hex(_BYTES))
        text = path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        raise ConfigError(
            f"contact_key: the file {path} is missing, and the store was made with it. Restore it from a backup; "
            "with another key Segue would recognise nobody."
        ) from None
    except OSError as error:
        raise StoreError(
            f"contact_key: the file {path} cannot be read or made: {error.strerror}. Give this user the right to."
        ) from error
    return ContactKeys.parse(text)


def _create(path: Path, text: str) -> None:
    """Make the file whole or not at all; of two processes at once, the first wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp gives mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        Path(temporary).unlink()


def _lower(text: str) -> str:
    """Lower a text as DuckDB does: letter by letter, without the rules that look at neighbours (final sigma)."""
    if text.isascii():
        return text.lower()
    return "".join(
        "i" if letter == "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}" else letter.lower() for letter in text
    )
