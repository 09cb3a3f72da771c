"""The settings of a Mailchimp destination: what they are, and everything that can be wrong with them.

No value is looked up and nothing is sent here; a secret is judged by its shape and never repeated.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Self
from urllib.parse import urlsplit

from ...core.errors import ConfigError, Problem

API_VERSION: Final = "3.0"
FIELD_SLOTS: Final = {"standard": 30, "premium": 80}  # merge fields per audience, by plan of the account

_KNOWN: Final = ("api_key", "audience", "base_url", "plan")
_KEY: Final = re.compile(r"[^\s-]+-([a-z]{2}\d+)")  # ends with the data centre
_WHERE_AUDIENCE: Final = "It stands in Mailchimp under Audience, Settings, Audience name and defaults."


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One audience of one account. `base_url` follows from the key unless a sandbox is meant."""

    api_key: str
    audience: str
    base_url: str
    plan: str

    @classmethod
    def read(cls, given: Mapping[str, str]) -> Self:
        """Read a destination's settings, secrets already resolved. Raises ConfigError with all problems."""
        if problems := list(_problems(given)):
            raise ConfigError.of(problems)
        key = given["api_key"]
        centre = key.rpartition("-")[2]
        return cls(
            api_key=key,
            audience=given["audience"],
            base_url=given.get("base_url") or f"https://{centre}.api.mailchimp.com/{API_VERSION}",
            plan=given.get("plan", "standard"),
        )


def _problems(given: Mapping[str, str]) -> Iterator[Problem]:
    for name in sorted(given.keys() - set(_KNOWN)):
        close = get_close_matches(name, _KNOWN, n=1)
        hint = f'Did you mean "{close[0]}"?' if close else f"Settings are: {', '.join(_KNOWN)}."
        yield Problem(where=f"settings.{name}", message="Mailchimp has no such setting.", next_step=hint)
    key, base, plan = given.get("api_key", ""), given.get("base_url", ""), given.get("plan", "standard")
    if not key:
        yield Problem(
            where="settings.api_key",
            message="the key is missing.",
            next_step="Set api_key: env:MAILCHIMP_API_KEY and export that variable.",
        )
    elif not base and _KEY.fullmatch(key) is None:
        yield Problem(
            where="settings.api_key",
            message="this is no whole Mailchimp key: it must end with a dash and the data centre, such as -us19.",
            next_step="Copy it again from Mailchimp under Account, Extras, API keys.",
        )
    if re.fullmatch(r"[0-9A-Za-z]+", given.get("audience", "")) is None:
        yield Problem(
            where="settings.audience",
            message="the audience's id, letters and digits, is missing or malformed.",
            next_step=_WHERE_AUDIENCE,
        )
    if base and not _is_base(base):
        yield Problem(
            where="settings.base_url",
            message=f"it must read http(s)://host/{API_VERSION}, without a key in it.",
            next_step=f"For the sandbox: http://127.0.0.1:8025/{API_VERSION}.",
        )
    if plan not in FIELD_SLOTS:
        known = ", ".join(FIELD_SLOTS)
        yield Problem(
            where="settings.plan", message=f'"{plan}" is no plan we know.', next_step=f"Plans are: {known}."
        )


def _is_base(text: str) -> bool:
    try:
        url = urlsplit(text)
        _ = url.port  # reading it is what checks it
    except ValueError:
        return False
    named = url.scheme in {"http", "https"} and bool(url.hostname) and not (url.username or url.password)
    # Plain http to the real thing would show the key to everyone on the way.
    safe = url.scheme == "https" or not str(url.hostname).endswith("mailchimp.com")
    return (
        named
        and safe
        and url.path.rstrip("/").endswith(f"/{API_VERSION}")
        and not (url.query or url.fragment)
    )
