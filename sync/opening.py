"""Opens what a job works with: a destination's connector, its mapping, and the state that the mapping projects.

Also says what makes them unfit to go on with. Nothing here sends, plans or stores anything.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..connectors.base import Connector
from ..connectors.registry import connector_class
from ..core.config import Project, resolve_secret
from ..core.errors import ConfigError, Problem, UnsupportedFeatureError
from ..core.model import Account, DestinationSchema
from ..core.snapshot import Snapshot
from ..mappings.mapping import Mapping as FieldMapping
from ..mappings.mapping import load_mapping
from .inbound.theirs import Theirs
from .planning.diff import ROWS_PER_GROUP


def open_connector(project: Project, destination: str) -> Connector:
    """Build a destination's connector, secrets resolved. Raises ConfigError; sends nothing."""
    config = project.destinations[destination]
    settings = {name: resolve_secret(str(value), project.folder) for name, value in config.settings.items()}
    return connector_class(config.connector).from_settings(settings)


def open_mapping(
    project: Project, destination: str, snapshot: Snapshot, connector: Connector
) -> FieldMapping:
    """Load a destination's mapping against the traits that the snapshot has."""
    config = project.destinations[destination]
    mapping = load_mapping(
        project.folder / config.mapping,
        traits=snapshot.traits,
        segments=list(project.segments),
        groups=list(project.groups),
        recommendations={name: config.slots for name, config in project.recommendations.items()},
        capabilities=connector.capabilities,
        timezone=project.timezone,
    )
    if mapping.connector != config.connector:
        raise ConfigError(
            f"{config.mapping} is for {mapping.connector}, and {project.place('destinations', destination, 'mapping')}"
            f" gives it to {config.connector}. Write a mapping for {config.connector}."
        )
    return mapping


def checked(connector: Connector, schema: DestinationSchema, owned: Iterable[str]) -> Account:
    """Prove the account with reads alone; of fields that appear with their first value, those `owned` are there."""
    connector.expect(schema)
    account = connector.check()
    if connector.capabilities.makes_fields:
        return account
    types = {spec.tag: spec.type for spec in schema.fields}
    return replace(account, fields={tag: types.get(tag) for tag in owned})


def refuse_foreign_fields(schema: DestinationSchema, account: Account, owned: Container[str]) -> None:
    """Refuse a field that somebody else made, unless the mapping claims it, and one of another type."""
    there = [spec for spec in schema.fields if spec.tag in account.fields]
    foreign = [spec for spec in there if spec.tag not in owned and not spec.claim]
    problems = [
        Problem(
            where=f"field {spec.tag}",
            message=f"it is {account.fields[spec.tag] or 'of another type'} there and {spec.type} in the mapping.",
            next_step="Pin another tag in the mapping.",
        )
        for spec in there
        if spec not in foreign and account.fields[spec.tag] is not spec.type
    ]
    if foreign:
        problems.append(
            Problem(
                where=f"fields {', '.join(spec.tag for spec in foreign)}",
                message=f"{account.audience} has them already, and they were not made from this store.",
                next_step="Pin other tags in the mapping, or take them over with `claim: true`.",
            )
        )
    if problems:
        raise UnsupportedFeatureError.of(problems)


def outdated(project: Project, snapshot: Snapshot, now: datetime) -> Iterator[str]:
    """Say which sources are older than their `max_age`, by their newest row; a fixed `as_of` stands for now."""
    newest = {
        (found["table_name"], found["source"]): found["newest"]
        for found in snapshot.manifest["report"]["sources"]
    }
    for table, sources in project.sources.items():
        for source in sources:
            if source.max_age is None:
                continue
            latest = newest.get((table, source.label))
            age = (project.as_of or now) - datetime.fromisoformat(latest) if latest else None
            if age is None or age > source.max_age:
                said = (
                    "has no time in any row"
                    if age is None
                    else f"is {age.days} days and {age.seconds // 3600} h old"
                )
                yield f"{source.label}: its newest row {said}, more than max_age {source.max_age}"


def project_to(mapping: FieldMapping, snapshot: Snapshot, theirs: Theirs, path: Path) -> None:
    """Write the desired state of every contact as Parquet (contact_id, address, fields, tags)."""
    con = snapshot.connect()
    tables = theirs.over(con, projected_tables(con), mapping)
    con.to_parquet(mapping.project(**tables), path, row_group_size=ROWS_PER_GROUP)
    con.disconnect()


def projected_tables(con: Any) -> Mapping[str, Any]:
    """Give the four tables of an opened snapshot that a mapping reads."""
    return {name: con.table(name) for name in ("profiles", "segments", "groups", "recommendations")}
