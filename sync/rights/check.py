"""Looks at a project for what should be better about people's data: one function per rule, each giving findings.

Changes nothing, sends nothing and asks no ESP. What a rule means is said in `rules`.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url

from ...connectors.registry import connector_class
from ...core.config import PROJECT_FILE, Project, suggest
from ...core.consent import Regime
from ...core.errors import ConfigError, Problem
from ...core.snapshot import Snapshot
from ...core.yamlfile import Document, validate
from ...mappings.config import MappingConfig
from ..store.store import Store
from .keeping_out import is_new
from .personal import looks_personal, personal_traits
from .rules import RULES
from .whom import newest

_OTHERS: Final = 0o077  # what everybody but the owner may
_VAGUE: Final = re.compile(
    r"(?:e-?mail|direct)?[\s_-]*(?:marketing|business|internal|general|various|other|misc\w*|analytics|data|use"
    r"|purpose|crm|sync|test|tbd|todo|n/?a|none|x+|\W+|\.+|\?+)?",
    re.IGNORECASE,
)
_FEWEST_LETTERS: Final = 4  # of a purpose that says anything
_EUROPE: Final = frozenset(
    [
        "AT",
        "BE",
        "BG",
        "CY",
        "CZ",
        "DE",
        "DK",
        "EE",
        "ES",
        "FI",
        "FR",
        "GR",
        "HR",
        "HU",
        "IE",
        "IT",
        "LT",
        "LU",
        "LV",
        "MT",
        "NL",
        "PL",
        "PT",
        "RO",
        "SE",
        "SI",
        "SK",
        "IS",
        "LI",
        "NO",
        "GB",
        "CH",
    ]
)
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that should be better. `accepted` is why the project accepts it, None when it does not."""

    rule: str
    where: str
    message: str
    accepted: str | None = None


def findings(project: Project) -> list[Finding]:
    """Give all findings, those that the project accepts too. Raises ConfigError when it accepts a rule that is none."""
    accepted = project.privacy.accepted
    problems = [
        Problem(
            where=project.place("privacy", "accepted", name),
            message=f'privacy.accepted: there is no rule "{name}".',
            next_step=suggest(name, RULES) or f"The rules are {', '.join(RULES)}.",
        )
        for name in accepted
        if name not in RULES
    ]
    if problems:
        raise ConfigError.of(problems)
    sight = _Sight(project)
    found = [
        Finding(rule=rule, where=where, message=message)
        for rule, look in _LOOKS.items()
        for where, message in look(sight)
    ]
    there = {each.rule for each in found}
    found += [
        Finding(
            rule="acceptance_without_finding",
            where=project.place("privacy", "accepted", name),
            message=f"{name} is accepted and not found.",
        )
        for name in accepted
        if name not in there and name != "acceptance_without_finding"
    ]
    return [replace(each, accepted=accepted.get(each.rule)) for each in found]


class _Sight:
    """What the rules look at, each read once."""

    def __init__(self, project: Project) -> None:
        self.project = project

    @cached_property
    def snapshot(self) -> Snapshot | None:
        return newest(self.project)

    @cached_property
    def mappings(self) -> Mapping[str, MappingConfig]:
        found: dict[str, MappingConfig] = {}
        for config in self.project.destinations.values():
            document, problems = Document.read(self.project.folder / config.mapping)
            mapping, more = validate(document, MappingConfig)
            if mapping is None:
                raise ConfigError.of([*problems, *more])
            found[config.mapping] = mapping
        return found

    @cached_property
    def personal(self) -> frozenset[str]:
        return frozenset(personal_traits(self.snapshot)) if self.snapshot is not None else frozenset()

    def place(self, *keys: str | int) -> str:
        return self.project.place(*keys)


def _vague_purpose(sight: _Sight) -> Iterator[tuple[str, str]]:
    for path, mapping in sight.mappings.items():
        said = [(field.label, field.purpose) for field in mapping.fields]
        if mapping.tags is not None:
            said.append(("tags", mapping.tags.purpose))
        for name, purpose in said:
            if _VAGUE.fullmatch(purpose.strip()) or sum(map(str.isalpha, purpose)) < _FEWEST_LETTERS:
                yield path, f'{name}: the purpose "{purpose}" says nothing.'


def _undeclared(sight: _Sight) -> Iterator[tuple[str, str]]:
    declared = set(sight.project.privacy.personal_data)
    for path, mapping in sight.mappings.items():
        for field in mapping.fields:
            trait = field.trait or ""
            if field.direction == "pull" or trait in declared:
                continue
            if trait in sight.personal or looks_personal(trait):
                yield path, f"{field.label}: {trait} looks like personal data, leaves, and is not declared."


def _unused(sight: _Sight) -> Iterator[tuple[str, str]]:
    mapped = {field.trait for mapping in sight.mappings.values() for field in mapping.fields}
    rules = " ".join(segment.where for segment in sight.project.segments.values())
    for trait in sorted(sight.personal - mapped):
        if re.search(rf"\b{re.escape(trait)}\b", rules) is None:
            yield (
                sight.place("sources", "customers"),
                f"{trait} looks like personal data, and no mapping or segment uses it.",
            )


def _unproved(sight: _Sight) -> Iterator[tuple[str, str]]:
    if sight.snapshot is None:
        return
    for count in sight.snapshot.manifest.get("quarantine", ()):
        if count["rule"] == "grant_without_evidence":
            yield count["source"], f"{count['rows']:,} grants have no evidence."


def _unlimited(sight: _Sight) -> Iterator[tuple[str, str]]:
    if "retention" not in sight.project.model_fields_set:
        yield PROJECT_FILE, "retention is not set."


def _unsigned(sight: _Sight) -> Iterator[tuple[str, str]]:
    for name, config in sight.project.destinations.items():
        signs = connector_class(config.connector).webhooks
        if config.webhooks is not None and not config.webhooks.secrets and signs is not None and signs.signs:
            yield (
                sight.place("destinations", name, "webhooks"),
                f"{name}: webhooks are taken without a signature.",
            )


def _plain_store(sight: _Sight) -> Iterator[tuple[str, str]]:
    if sight.project.encryption_key is None:
        yield PROJECT_FILE, "encryption_key is not set."


def _readable_secrets(sight: _Sight) -> Iterator[tuple[str, str]]:
    project = sight.project
    texts = [project.contact_key, project.encryption_key or "", project.store]
    for config in project.destinations.values():
        texts += config.settings.values()
        if config.webhooks is not None:
            texts += [config.webhooks.token, *config.webhooks.secrets]
    files = [
        project.folder / Path(text.removeprefix("file:")).expanduser()
        for text in texts
        if text.startswith("file:")
    ]
    for path in dict.fromkeys([*files, project.folder / ".env"]):
        if _is_open(path):
            yield str(path), "others may read or write the file."


def _readable_state(sight: _Sight) -> Iterator[tuple[str, str]]:
    folder = sight.project.state_folder
    store = _store_file(sight.project)
    if _is_open(folder):  # what is below is behind it
        yield str(folder), "others may look into the folder."
    if store is not None and _is_open(store) and (_is_open(store.parent) or store.parent != folder):
        yield str(store), "others may read or write the store."


def _key_beside(sight: _Sight) -> Iterator[tuple[str, str]]:
    key, store = sight.project.contact_key_file(), _store_file(sight.project)
    if key is not None and store is not None and key.resolve().parent == store.resolve().parent:
        yield str(key), "the contact key lies beside the store."


def _debug(sight: _Sight) -> Iterator[tuple[str, str]]:
    variable = "SEGUE_LOG_LEVEL"
    if os.environ.get(variable, "").lower() == "debug":
        yield variable, "log lines are written at level debug."
    env = sight.project.folder / ".env"
    if env.is_file() and re.search(
        rf"^(export )?{variable}=['\"]?debug", env.read_text(errors="replace"), re.MULTILINE | re.IGNORECASE
    ):
        yield str(env), "log lines are written at level debug."


def _plain_http(sight: _Sight) -> Iterator[tuple[str, str]]:
    project = sight.project
    urls: list[tuple[tuple[str, ...], str]] = [(("serve", "public_url"), project.serve.public_url or "")]
    urls += [
        (("destinations", name, "settings", key), value)
        for name, config in project.destinations.items()
        for key, value in config.settings.items()
    ]
    for keys, url in urls:
        parts = urlsplit(url)
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            yield sight.place(*keys), f"{'.'.join(keys)} is http://."


def _opt_out(sight: _Sight) -> Iterator[tuple[str, str]]:
    for country, regime in sight.project.consent.regimes.items():
        if regime is Regime.OPT_OUT and country in _EUROPE:
            yield (
                sight.place("consent", "regimes", country),
                f"{country}: {regime.value} does not hold there.",
            )


def _waiting(sight: _Sight) -> Iterator[tuple[str, str]]:
    if is_new(sight.project):
        return
    with Store.of(sight.project) as store:
        for each in store.erasures.unfinished():
            yield f"erasure {each.erasure_id}", f"asked for on {each.requested_at:%Y-%m-%d}, and not done."


_LOOKS: Final[Mapping[str, Callable[[_Sight], Iterator[tuple[str, str]]]]] = {
    "vague_purpose": _vague_purpose,
    "undeclared_personal_data": _undeclared,
    "unused_personal_data": _unused,
    "grant_without_evidence": _unproved,
    "retention_not_set": _unlimited,
    "webhooks_unsigned": _unsigned,
    "store_not_encrypted": _plain_store,
    "secret_readable": _readable_secrets,
    "state_readable": _readable_state,
    "contact_key_beside_store": _key_beside,
    "debug_logging": _debug,
    "plain_http": _plain_http,
    "opt_out_in_europe": _opt_out,
    "erasure_waits": _waiting,
}


def _is_open(path: Path) -> bool:
    return path.exists() and bool(path.stat().st_mode & _OTHERS)


def _store_file(project: Project) -> Path | None:
    url = make_url(project.store_url())
    return Path(url.database) if url.drivername == "sqlite" and url.database else None
