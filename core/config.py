"""segue.yml as models: what a project is made of, where its secrets come from, and every mistake at once.

Lives here: the settings, their limits, the checks that need segue.yml alone. Must not: read data, open a store,
know a trait, a rule's meaning or a connector.

Checks across sections (a group that names no segment) run on the document and not on the loaded model, so that they
are reported together with the wrong shapes and not one round later.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from .errors import ConfigError, Problem
from .keeping import PrivacyConfig, RetentionConfig
from .listening import ServeConfig, WebhooksConfig
from .model import TraitType
from .reading import Identity, Quality, RuleAction, Source, TableName, format_of
from .regimes import ConsentConfig
from .settings import (
    Country,
    Cron,
    Currency,
    Duration,
    Instant,
    Name,
    Part,
    Secret,
    Setting,
    Share,
    StoreUrl,
    Text,
    TimeZone,
    parse_duration,
    parse_part,
    resolve_secret,
)
from .telling import AlertConfig, MetricsConfig
from .yamlfile import (
    PROJECT_FILE,
    Document,
    FileModel,
    Section,
    dotted,
    in_order,
    is_secret_key,
    read_model,
    suggest,
    validate,
)

__all__ = [
    "PROJECT_FILE",
    "AlertConfig",
    "ConsentConfig",
    "DestinationConfig",
    "GroupConfig",
    "Guardrails",
    "Identity",
    "MetricsConfig",
    "Project",
    "Quality",
    "RecommendationConfig",
    "RuleAction",
    "ScheduleEntry",
    "SegmentConfig",
    "ServeConfig",
    "Source",
    "TraitConfig",
    "WebhooksConfig",
    "format_of",
    "load_project",
    "parse_duration",
    "parse_part",
    "project_schema",
    "read_model",
    "resolve_secret",
    "suggest",
]


class TraitConfig(Section):
    """The type and the words of a customer column that is a trait."""

    type: TraitType | None = None
    """The type; found out from the values when not given."""
    description: str | None = None
    """A sentence that a marketer understands."""


class SegmentConfig(Section):
    """A named set of contacts, chosen by a rule."""

    label: str = ""
    """What marketers read; made from the name when not given."""
    description: str = ""
    """A sentence that a marketer understands."""
    where: Text
    """The rule; docs/rules.md lists what it can say."""
    minimum_size: Annotated[int, Field(ge=1)] = 1
    """With fewer members the segment is not synced."""


class GroupConfig(Section):
    """Segments that exclude each other: a contact is in the first one that fits."""

    label: str = ""
    """What marketers read; made from the name when not given."""
    description: str = ""
    """A sentence that a marketer understands."""
    segments: Annotated[list[str], Field(min_length=1)]
    """In order of priority."""


class RecommendationConfig(Section):
    """Products chosen for each contact."""

    kind: Literal["popular_in_category"]
    """How products are chosen."""
    slots: Annotated[int, Field(ge=1, le=10)] = 3
    """How many products."""
    window: Duration = timedelta(days=30)
    """How far back sales count."""


class Guardrails(Section):
    """Limits above which a plan is not applied without a person's word."""

    max_change_share: Share = 0.5
    """Of the contacts that the destination already knows."""
    max_new_contacts: Annotated[int, Field(ge=0)] | None = None
    """How many contacts one run may create."""
    max_untag_share: Share = 0.5
    """Of the contacts that have a tag of ours: how many of them may lose it in one run."""
    max_shrink_share: Share = 0.2
    """Of the contacts that the destination confirmed: how many may vanish from the shop's data at once."""
    max_reject_share: Share = 0.1
    """How many contacts the platform may refuse, of those that are tried; also what stops a run in the middle."""
    canary: Part | None = None
    """What `segue run` sends first, such as 2% or 50 contacts; the rest only if not too many of them are refused."""


class DestinationConfig(Section):
    """One account of an email platform."""

    connector: Text
    """Which platform, e.g. mailchimp."""
    mapping: Text
    """The mapping file, relative to the folder of segue.yml."""
    settings: dict[str, Setting] = Field(default_factory=dict)
    """The connector's own. Values may be env:NAME or file:path; keys and tokens must be."""
    guardrails: Guardrails = Field(default_factory=Guardrails)
    webhooks: WebhooksConfig | None = None
    """How the platform may tell `segue serve` what happens to contacts; not at all when not given."""
    engagement: bool = False
    """Read who opened and clicked what, at every pull; it costs requests."""


class ScheduleEntry(Section):
    """A command that `segue schedule` starts by the clock of the project's `timezone`."""

    cron: Cron
    """When: minute, hour, day of month, month, day of week, as in a crontab."""
    command: Literal["run", "run --no-build", "pull", "pull --full", "verify"] = "run"
    """What is started: `run`, `run --no-build` (the data stays as it is), `pull` (who left?), `pull --full`, or `verify`."""
    destination: str | None = None
    """For which destination; all when not given."""
    grace: Duration = timedelta(hours=1)
    """How late it may still start, on a machine that slept; a firing later than that is left out."""


class Project(FileModel):
    """A project: the folder of segue.yml and what stands in it. All paths are relative to that folder."""

    project: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_. -]*$")]
    """Its name."""
    as_of: Instant | None = None
    """The moment that everything is computed for; when not given, the moment a build starts."""
    timezone: TimeZone = "UTC"
    """Of the shop, and of times in the data that have no zone."""
    currency: Currency | None = None
    """Of prices without a currency."""
    country: Country | None = None
    """Of customers without a country."""
    state: Path = Path(".segue")
    """The folder of snapshots and of the default store."""
    store: StoreUrl = "sqlite"
    """What was sent and who may be mailed: sqlite (a file in the state folder), env:NAME or a database address."""
    contact_key: Secret = "file:.segue/contact.key"
    """The secret that turns contact ids into hashes in the store; the file is made with the store."""
    encryption_key: Secret | None = None
    """The secret that encrypts what the store and plans hold of people; not at all when not given."""
    sources: Annotated[dict[TableName, list[Source]], Field(min_length=1)]
    """The shop's data, by canonical table."""
    quality: Quality = Field(default_factory=Quality)
    consent: ConsentConfig = Field(default_factory=ConsentConfig)
    retention: RetentionConfig = Field(default_factory=RetentionConfig)
    """How long what is kept."""
    privacy: PrivacyConfig = Field(default_factory=PrivacyConfig)
    identity: Identity = Field(default_factory=Identity)
    traits: dict[Name, TraitConfig] = Field(default_factory=dict)
    """Types and words for further customer columns."""
    segments: dict[Name, SegmentConfig] = Field(default_factory=dict)
    """Named sets of contacts, by rule."""
    groups: dict[Name, GroupConfig] = Field(default_factory=dict)
    """Sets of segments that exclude each other."""
    recommendations: dict[Name, RecommendationConfig] = Field(default_factory=dict)
    """Products for each contact, in slots."""
    destinations: dict[Name, DestinationConfig] = Field(default_factory=dict)
    """Accounts at email platforms."""
    metrics: MetricsConfig = Field(default_factory=MetricsConfig)
    alerts: tuple[AlertConfig, ...] = ()
    """Whom to tell when a destination fails and when it is well again."""
    serve: ServeConfig = Field(default_factory=ServeConfig)
    """What `segue serve` listens on."""
    schedule: dict[Name, ScheduleEntry] = Field(default_factory=dict)
    """What `segue schedule` starts, and when."""

    @model_validator(mode="before")
    @classmethod
    def _labels_from_names(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        filled = dict(raw)
        for section in ("segments", "groups"):
            if isinstance(entries := raw.get(section), dict):
                filled[section] = {
                    name: {"label": humanised(name), **entry} if isinstance(entry, dict) else entry
                    for name, entry in entries.items()
                }
        return filled

    @property
    def folder(self) -> Path:
        """The absolute folder of segue.yml."""
        return self.path.parent

    @property
    def state_folder(self) -> Path:
        """The absolute folder of snapshots and of the default store."""
        return self.folder / self.state

    def store_url(self) -> str:
        """Give the store's database address, secrets resolved: never print it."""
        if self.store == "sqlite":
            return f"sqlite:///{self.state_folder / 'store.db'}"
        url = resolve_secret(self.store, self.folder)
        if url.startswith("sqlite:///") and not url.startswith("sqlite:////"):
            return f"sqlite:///{self.folder / url.removeprefix('sqlite:///')}"
        return url

    def contact_key_file(self) -> Path | None:
        """Give the absolute file of the contact key, None when it comes from the environment."""
        if not self.contact_key.startswith("file:"):
            return None
        return self.folder / Path(self.contact_key.removeprefix("file:")).expanduser()

    def destinations_named(self, name: str | None) -> list[str]:
        """Give the destination of this name, or all for None. Raises ConfigError when there is none of this name."""
        if name is None:
            return list(self.destinations)
        if name not in self.destinations:
            known = ", ".join(self.destinations) or "none"
            raise ConfigError(f'There is no destination "{name}". {PROJECT_FILE} has: {known}.')
        return [name]

    def destination_settings(self, name: str) -> dict[str, str]:
        """Give a destination's settings with their secrets resolved: never print them.

        Raises ConfigError listing every secret that is not there.
        """
        resolved: dict[str, str] = {}
        problems: list[Problem] = []
        for key, value in self.destinations[name].settings.items():
            try:
                resolved[key] = resolve_secret(value, self.folder)
            except ConfigError as error:
                keys = ("destinations", name, "settings", key)
                problems.append(Problem(where=self.place(*keys), message=f"{dotted(keys)}: {error.message}"))
        if problems:
            raise ConfigError.of(problems)
        return resolved


def humanised(name: str) -> str:
    """Give the words for a name.

    >>> humanised("lapsing_regulars")
    'Lapsing regulars'
    """
    return name.replace("_", " ").capitalize()


def load_project(folder_or_file: Path) -> Project:
    """Read a project. Raises ConfigError with all problems, each with its line and, where it can, the likely word."""
    path = folder_or_file.absolute()
    if path.is_dir() or path.suffix not in {".yml", ".yaml"}:
        path = path / PROJECT_FILE
    if not path.is_file():
        raise ConfigError(
            f"there is no {PROJECT_FILE} in {path.parent}. Go to the project's folder, name it with --project, "
            "or make a project with `segue init DIR --data FOLDER`."
        )
    document, problems = Document.read(path)
    project, more = validate(document, Project)
    problems += more
    # A wrong shape is said once: what a cross-check finds at the same line is its consequence.
    taken = {problem.where for problem in problems}
    problems += [problem for problem in _cross_checks(document) if problem.where not in taken]
    if project is None or problems:
        raise ConfigError.of(in_order(problems))
    return project


def project_schema() -> dict[str, Any]:
    """Give the JSON Schema of segue.yml, for completion in editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Project.model_json_schema()}


def _cross_checks(document: Document) -> Iterator[Problem]:
    yield from _stdin_checks(document)
    yield from _group_checks(document)
    for name in document.mapping("destinations"):
        yield from _destination_checks(document, name)
    yield from _schedule_checks(document)
    yield from _alert_checks(document)


def _stdin_checks(document: Document) -> Iterator[Problem]:
    piped = [
        ("sources", table_name, place)
        for table_name, sources in document.mapping("sources").items()
        if isinstance(sources, list)
        for place, source in enumerate(sources)
        if isinstance(source, dict) and source.get("stdin") is not None
    ]
    for keys in piped[1:]:
        message = f"stdin can be read once, and {dotted(piped[0])} reads it."
        yield _problem(document, keys, message, "Take this source from a file.")


def _group_checks(document: Document) -> Iterator[Problem]:
    segments = document.mapping("segments")
    for name, group in document.mapping("groups").items():
        if name in segments:
            message = "a segment has the same name."
            yield _problem(document, ("groups", name), message, "Rename one of them.")
        named = group.get("segments") if isinstance(group, dict) else None
        if not isinstance(named, list):
            continue
        for index, segment in enumerate(named):
            keys = ("groups", name, "segments", index)
            if isinstance(segment, str) and segment not in segments:
                yield _problem(
                    document, keys, f'no segment is called "{segment}".', suggest(segment, segments)
                )
            elif segment in named[:index]:
                yield _problem(
                    document, keys, f'"{segment}" stands in this group twice.', "Keep one of them."
                )


def _destination_checks(document: Document, name: str) -> Iterator[Problem]:
    folder = document.path.parent
    mapping = document.mapping("destinations", name).get("mapping")
    if isinstance(mapping, str) and not (folder / mapping).is_file():
        files = sorted(found.relative_to(folder).as_posix() for found in folder.glob("mappings/*.yml"))
        hint = (
            suggest(mapping, files) or "Write that file, or let `segue init` make a project with a starter."
        )
        yield _problem(document, ("destinations", name, "mapping"), f'there is no file "{mapping}".', hint)
    for key, value in document.mapping("destinations", name, "settings").items():
        if is_secret_key(key) and isinstance(value, str) and not value.startswith(("env:", "file:")):
            keys = ("destinations", name, "settings", key)
            yield _problem(document, keys, "a secret does not stand in YAML.", "Write env:NAME or file:path.")


def _schedule_checks(document: Document) -> Iterator[Problem]:
    destinations = document.mapping("destinations")
    for name, entry in document.mapping("schedule").items():
        destination = entry.get("destination") if isinstance(entry, dict) else None
        if isinstance(destination, str) and destination not in destinations:
            message = f'no destination is called "{destination}".'
            hint = suggest(destination, destinations) or f"There is: {', '.join(destinations) or 'none'}."
            yield _problem(document, ("schedule", name, "destination"), message, hint)


def _alert_checks(document: Document) -> Iterator[Problem]:
    destinations = document.mapping("destinations")
    alerts = document.mapping().get("alerts")
    for index, alert in enumerate(alerts if isinstance(alerts, list) else ()):
        named = alert.get("destinations") if isinstance(alert, dict) else None
        for place, name in enumerate(named if isinstance(named, list) else ()):
            if isinstance(name, str) and name not in destinations:
                message = f'no destination is called "{name}".'
                hint = suggest(name, destinations) or f"There is: {', '.join(destinations) or 'none'}."
                yield _problem(document, ("alerts", index, "destinations", place), message, hint)


def _problem(document: Document, keys: tuple[str | int, ...], message: str, next_step: str) -> Problem:
    message = f"{dotted(keys)}: {message}"
    return Problem(where=document.place(*keys), message=message, next_step=next_step or None)
