"""A key that goes in a header, as most ESPs want it."""

from requests import PreparedRequest
from requests.auth import AuthBase


class KeyAuth(AuthBase):
    """Sends `Authorization: scheme key`. Two of one key are the same account."""

    def __init__(self, scheme: str, key: str) -> None:
        self._header = f"{scheme} {key}"

    @property
    def whose(self) -> str:
        """Tell whose key it is; a secret, to be hashed."""
        return self._header

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Put the key in."""
        request.headers["Authorization"] = self._header
        return request
