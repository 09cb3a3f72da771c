"""Everything that can be wrong with a project, found without a build and without a request.

Lives here: the order of the checks and what one failed check means for the next. Must not: the checks themselves,
which belong to the parts that own the thing, and any request to a destination.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..connectors.registry import connector_class
from ..core.config import DestinationConfig, Project, resolve_secret
from ..core.data.ingest import check_sources
from ..core.errors import ConfigError, Problem, SegueError
from ..core.model import Capabilities, Trait
from ..core.personalize import available_traits
from ..core.segments.check import check_segments
from ..core.yamlfile import dotted
from ..mappings.mapping import load_mapping
from .inbound.learnt import learnt_traits
from .store.sealing import parse_keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was looked at, and every problem found."""

    sources: int
    segments: int
    destinations: int
    traits: int
    problems: tuple[Problem, ...]


def check(project: Project) -> Checked:
    """Check sources by their heads, rules, mappings, connectors and secrets. Sends nothing, writes nothing."""
    problems = list(check_sources(project))
    traits: Sequence[Trait] = ()
    if not problems:
        # Unknown columns would make every rule about them wrong as well: one round for the data, one for the rest.
        try:
            traits = available_traits(project, learnt_traits(project))
        except SegueError as error:
            problems += error.problems or (Problem(where=project.place("sources"), message=error.message),)
        else:
            problems += check_segments(project, traits)
    for name in project.destinations:
        problems += _check_destination(project, name, traits)
    problems += _check_own_secrets(project)
    return Checked(
        sources=sum(len(sources) for sources in project.sources.values()),
        segments=len(project.segments),
        destinations=len(project.destinations),
        traits=len(traits),
        problems=tuple(problems),
    )


def _check_destination(project: Project, name: str, traits: Sequence[Trait]) -> Iterator[Problem]:
    destination = project.destinations[name]
    where = project.place("destinations", name, "connector")
    try:
        connector = connector_class(destination.connector)
    except ConfigError as error:
        yield Problem(where=where, message=f"destinations.{name}.connector: {error.message}")
        return
    if traits:
        yield from _problems_of(
            project.place("destinations", name, "mapping"),
            lambda: _load_mapping(project, destination, connector.capabilities, traits),
        )
    for problem in _problems_of(
        project.place("destinations", name, "settings"),
        lambda: connector.from_settings(project.destination_settings(name)),
    ):
        yield _at_its_line(project, name, problem)


def _load_mapping(
    project: Project, destination: DestinationConfig, capabilities: Capabilities, traits: Sequence[Trait]
) -> None:
    mapping = load_mapping(
        project.folder / destination.mapping,
        traits=traits,
        segments=tuple(project.segments),
        groups=tuple(project.groups),
        recommendations={name: config.slots for name, config in project.recommendations.items()},
        capabilities=capabilities,
        timezone=project.timezone,
    )
    if mapping.connector != destination.connector:
        raise ConfigError(
            f"{destination.mapping} is for {mapping.connector} and not for {destination.connector}. "
            f"Write a mapping for {destination.connector}."
        )


def _at_its_line(project: Project, name: str, problem: Problem) -> Problem:
    """Give a connector's problem with `settings.KEY` its line in segue.yml, which a connector does not know."""
    section, _, key = problem.where.partition(".")
    if section != "settings" or not key:
        return problem
    keys = ("destinations", name, section, key)
    return Problem(
        where=project.place(*keys),
        message=f"{dotted(keys)}: {problem.message}",
        next_step=problem.next_step,
    )


def _check_own_secrets(project: Project) -> Iterator[Problem]:
    # A key file that is not there yet is made together with the store; an environment variable is not.
    if project.contact_key.startswith("env:"):
        yield from _problems_of(
            project.place("contact_key"), lambda: resolve_secret(project.contact_key, project.folder)
        )
    if secret := project.encryption_key:
        yield from _problems_of(
            project.place("encryption_key"), lambda: parse_keys(resolve_secret(secret, project.folder))
        )
    yield from _problems_of(project.place("store"), project.store_url)


def _problems_of(where: str, attempt: Callable[[], object]) -> Sequence[Problem]:
    """Run something that raises SegueError and give its problems; one without places gets `where`."""
    try:
        attempt()
    except SegueError as error:
        return error.problems or (Problem(where=where, message=error.message),)
    return ()
