"""Which column of a consent platform's export is which of ours, and what its words mean: data, not code.

The shipped shapes are the files `consents_*.yml` beside this one; a project's own file has the same keys. Nothing
here reads an export; `core.data.consents` does.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from .errors import ConfigError
from .settings import Encoding, OneCharacter, Text, TimeZone
from .yamlfile import FileModel, read_model, suggest

Ours = Literal["contact_id", "email", "channel", "purpose", "act", "occurred_at", "source", "evidence"]
Meaning = Literal["grant", "request", "withdrawal", "suppression", "release", "ignore"]

_PREFIX: Final = "consents_"


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[Text, ...], BeforeValidator(_several), Field(min_length=1)]


class Shape(FileModel):
    """What the columns and the words of an export mean. Of several names, the first that the file has is taken."""

    columns: dict[Ours, Names]
    """Ours: theirs. `act` and `occurred_at` are needed, and one of `email` and `contact_id`."""
    evidence: dict[Text, Names] = Field(default_factory=dict)
    """Names of ours for what proves an act, and their columns; `confirmed_at` proves a double opt-in."""
    acts: dict[Text, Meaning] = Field(default_factory=dict)
    """Their word, in any case: grant, request, withdrawal, suppression, release, or ignore."""
    marketing: tuple[Text, ...] = ()
    """Their purposes that are e-mail marketing; a grant for another one mails nobody, a stop of any stops all."""
    channel: Text = "email"
    """Where no column says it."""
    only: dict[Text, Names] = Field(default_factory=dict)
    """Their column, where there is one, and the values that it must have; other rows are left out."""
    time_format: Text | None = None
    """How times are written, such as "%m/%d/%Y %H:%M", where ISO 8601 and 31.12.2026 are not enough."""
    timezone: TimeZone | None = None
    """Of times without a zone; the project's when not given."""
    delimiter: OneCharacter | None = None
    """Found out when not given."""
    encoding: Encoding | None = None
    """UTF-8 when not given."""


def shipped() -> Sequence[str]:
    """Name the shapes that come with Segue."""
    return sorted(found.stem.removeprefix(_PREFIX) for found in Path(__file__).parent.glob(f"{_PREFIX}*.yml"))


def load_shape(name_or_file: str | Path) -> Shape:
    """Read a shipped shape by its name, or a mapping file. Raises ConfigError."""
    if isinstance(name_or_file, Path):
        return read_model(name_or_file, Shape)
    if name_or_file not in shipped():
        hint = suggest(name_or_file, shipped()) or f"There is: {', '.join(shipped())}."
        raise ConfigError(
            f'there is no shape "{name_or_file}". {hint} `--map FILE` reads an export of another form.'
        )
    return read_model(Path(__file__).with_name(f"{_PREFIX}{name_or_file}.yml"), Shape)
