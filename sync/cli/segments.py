"""The commands for what a build computed: segments, traits.

Lives here: their words. Must not: evaluate or explain a rule (`core.segments`).
"""

from pathlib import Path
from typing import Annotated

import typer

from .app import AsJson, ProjectFolder, app
from .output import Output

segments = typer.Typer(help="Who is in which segment, and what its rule says in words.")
app.add_typer(segments, name="segments")


@segments.command("list")
def list_segments(project: ProjectFolder = Path(), *, as_json: AsJson = False) -> None:
    """List the segments with their sizes in the current snapshot."""
    from ...core.config import load_project
    from ...core.snapshot import current
    from .query import opened, select

    output = Output(as_json=as_json)
    loaded = load_project(project)
    with opened(current(loaded.state_folder)) as connection:
        sizes = dict(select(connection, "select segment, count(*) from segments group by 1").rows)
        grouped = list(
            select(
                connection,
                "select group_name, segment, count(*) from groups group by 1, 2 order by 1, 3 desc",
            ).rows
        )
    rows = [
        {
            "segment": name,
            "label": segment.label,
            "contacts": sizes.get(name, 0),
            "minimum_size": segment.minimum_size,
            "where": segment.where,
        }
        for name, segment in loaded.segments.items()
    ]
    output.json(
        {
            "segments": rows,
            "groups": [{"group": group, "segment": name, "contacts": n} for group, name, n in grouped],
        }
    )
    output.table(
        "Segments",
        ["segment", "label", "contacts", "rule"],
        [[row["segment"], row["label"], row["contacts"], row["where"]] for row in rows],
    )
    if grouped:
        output.table("Groups: each contact in the first that fits", ["group", "segment", "contacts"], grouped)


@segments.command()
def explain(
    name: Annotated[str, typer.Argument(help="The segment.")],
    project: ProjectFolder = Path(),
    *,
    as_json: AsJson = False,
) -> None:
    """Say in words whom a segment's rule chooses."""
    from ...core.config import load_project, suggest
    from ...core.errors import ConfigError
    from ...core.personalize import available_traits
    from ...core.segments.check import parse_rules
    from ...core.segments.explain import explain as in_words
    from ..inbound.learnt import learnt_traits

    output = Output(as_json=as_json)
    loaded = load_project(project)
    if name not in loaded.segments:
        raise ConfigError(f'there is no segment "{name}". {suggest(name, loaded.segments)}'.rstrip())
    segment = loaded.segments[name]
    rules, problems = parse_rules(loaded)
    if name not in rules:
        raise ConfigError.of(problems)
    labels = {other: config.label for other, config in loaded.segments.items()}
    sentence = in_words(rules[name], available_traits(loaded, learnt_traits(loaded)), labels)
    output.json({"segment": name, "label": segment.label, "where": segment.where, "explanation": sentence})
    output.say(f"{segment.label}: {segment.where}")
    output.say(sentence)


@app.command()
def traits(project: ProjectFolder = Path(), *, as_json: AsJson = False) -> None:
    """List the traits of the current snapshot: type, meaning, and how many contacts have a value."""
    from ...core.config import load_project
    from ...core.snapshot import current
    from .query import opened, select

    output = Output(as_json=as_json)
    snapshot = current(load_project(project).state_folder)
    known = snapshot.traits
    counts = ", ".join(f'count("{trait.name}")' for trait in known)
    with opened(snapshot) as connection:
        total, *filled = next(select(connection, f"select count(*), {counts} from profiles").rows)
    rows = [
        {
            "trait": trait.name,
            "type": trait.type.value,
            "filled": round(count / total, 4) if total else 0.0,
            "description": trait.description,
            "null_means": trait.null_means,
        }
        for trait, count in zip(known, filled, strict=True)
    ]
    output.json({"contacts": total, "traits": rows})
    output.table(
        f"{len(rows)} traits of {total:,} contacts",
        ["trait", "type", "filled", "meaning"],
        [[row["trait"], row["type"], f"{row['filled']:.0%}", row["description"]] for row in rows],
    )
