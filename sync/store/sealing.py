"""Seals what the store keeps of people: AES-256-GCM under keys that are not in the store.

Lives here: the form of a sealed value and who can open it. Must not: which columns hold one (`encryption` lists them).

A sealed value is bound to its place: what somebody copies to another person, table or destination does not open there. Its head names the key, so that two keys can be in use while one takes over from the other. In a column of
text it is written in base64, and begins with "SEAL".

Decision. Each opened store seals under a subkey of its own, made from the key and eight random bytes that stand in the
value's head. AES-GCM with random nonces is safe for some four thousand million values under one key, which a large
audience writes within months; under a subkey a process it is never reached. AES-GCM-SIV, which forgives more, lost:
not every OpenSSL has it.
"""

import hmac
import os
import re
from binascii import Error as NotBase64
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ...core.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_MARK: Final = a2b_base64("SEAL")  # three bytes that begin neither JSON nor what zlib packs
_KEY_ID, _SALT, _NONCE, _BYTES = 3, 8, 12, 32
_HEAD: Final = len(_MARK) + _KEY_ID + _SALT
_SUBKEYS: Final = 1024  # of as many processes as may have written what one reading meets


class Sealing:
    """Seals under the first of its secrets and opens what any of them sealed; without a secret nothing is sealed.

    `plain_too`: values that were stored before the store was encrypted are given as they are.
    """

    def __init__(self, secrets: Sequence[bytes] = (), *, plain_too: bool = False) -> None:
        self._secrets = {key_id(secret): secret for secret in secrets}
        self.plain_too = plain_too
        self._subkey = lru_cache(_SUBKEYS)(self._subkey_of)
        self._head = b""
        if secrets:
            self._head = _MARK + next(iter(self._secrets)) + os.urandom(_SALT)
            self._seal = self._subkey(self._head).encrypt
            self._failures = _failures()

    @property
    def is_on(self) -> bool:
        """Whether anything is sealed."""
        return bool(self._head)

    @property
    def key_ids(self) -> list[str]:
        """The names of the keys, the one to seal with first; they give nothing of the keys away."""
        return [each.hex() for each in self._secrets]

    @property
    def prefix(self) -> bytes:
        """What every value begins with that the newest key sealed."""
        return self._head[: len(_MARK) + _KEY_ID]

    def seal(self, value: bytes, *place: object) -> bytes:
        """Seal a value that is to be stored at a place: the table, and what tells the row from all others."""
        if not self._head:
            return value
        nonce = os.urandom(_NONCE)
        return self._head + nonce + self._seal(nonce, value, _bound(place))

    def unseal(self, value: bytes, *place: object) -> bytes:
        """Open a value found at a place. Raises StoreError when it was changed, or was sealed for another place."""
        if not self._head:
            return value
        if self.plain_too and not (value.startswith(_MARK) and _key_id_in(value) in self._secrets):
            return value
        if not value.startswith(_MARK):
            raise StoreError(
                f"{place[0]}: a value in the store is not encrypted, and was not written by Segue."
            )
        nonce, sealed = value[_HEAD : _HEAD + _NONCE], value[_HEAD + _NONCE :]
        try:
            return self._subkey(value[:_HEAD]).decrypt(nonce, sealed, _bound(place))
        except self._failures as error:
            raise StoreError(
                f"{place[0]}: a value in the store does not open: it was changed or moved by something else than"
                " Segue. Restore the store from a backup."
            ) from error

    def seal_text(self, text: str, *place: object) -> str:
        """Seal a value of a column of text."""
        if not self._head:
            return text
        return b2a_base64(self.seal(text.encode(), *place), newline=False).decode()

    def unseal_text(self, text: str, *place: object) -> str:
        """Open a value of a column of text. Raises StoreError as `unseal` does."""
        if not self._head:
            return text
        if not is_sealed(text):
            return self.unseal(text.encode(), *place).decode()
        try:
            value = a2b_base64(text, strict_mode=True)
        except NotBase64:
            value = _MARK
        return self.unseal(value, *place).decode()

    def _subkey_of(self, head: bytes) -> "AESGCM":
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # costs 30 ms to import

        secret, salt = self._secrets.get(_key_id_in(head)), head[len(_MARK) + _KEY_ID :]
        if secret is None:
            raise StoreError(
                f"encryption_key: a value in the store is sealed with the key {_key_id_in(head).hex()}, which is not"
                " given. Give it behind the newer one."
            )
        return AESGCM(hmac.digest(secret, b"seal\0" + salt, "sha256"))


def parse_keys(text: str) -> list[bytes]:
    """Read keys of 64 hexadecimal digits each, the one to seal with first. Raises ConfigError, which repeats none."""
    with suppress(ValueError):
        keys = [bytes.fromhex(word) for word in re.split(r"[\s,]+", text.strip())]
        if all(len(key) == _BYTES for key in keys) and len({key_id(key) for key in keys}) == len(keys):
            return keys
    raise ConfigError(
        f"encryption_key: the secret must be {2 * _BYTES} hexadecimal digits; or several such keys with a space"
        " between them, the newest first. Make one with `openssl rand -hex 32`."
    )


def key_id(secret: bytes) -> bytes:
    """Name a key, without giving anything of it away."""
    return hmac.digest(secret, b"id", "sha256")[:_KEY_ID]


def is_sealed(text: str) -> bool:
    """Say whether a value of a column of text is a sealed one."""
    return text.startswith("SEAL")


def text_prefix(prefix: bytes) -> str:
    """Give `Sealing.prefix` as it stands in a column of text."""
    return b2a_base64(prefix, newline=False).decode()


def _failures() -> tuple[type[Exception], ...]:
    from cryptography.exceptions import InvalidTag

    return InvalidTag, ValueError


def _key_id_in(value: bytes) -> bytes:
    return value[len(_MARK) : len(_MARK) + _KEY_ID]


def _bound(place: tuple[object, ...]) -> bytes:
    return "\0".join(map(str, place)).encode()


PLAIN: Final = Sealing()
"""Seals nothing."""
