"""The field dictionary: what whoever writes the mails finds at the ESP, and how to write it.

Lives here: its words. Must not: know a template language; the connector says how a field is written.
"""

from pathlib import Path

from ..plain import plain
from .app import AsJson, ProjectFolder, app
from .output import Output
from .sync import Destination


@app.command()
def fields(
    destination: Destination = None,
    project: ProjectFolder = Path(),
    *,
    as_json: AsJson = False,
) -> None:
    """List the fields and tags of a destination: how to write each, what it means, and how many contacts have it."""
    from ..opening import projected_tables
    from .sync import opened

    output = Output(as_json=as_json)
    with opened(project, destination) as job:
        con = job.snapshot.connect()
        counts = {count.tag: count for count in job.mapping.count(**projected_tables(con))}
        con.disconnect()
        syntax = job.connector.capabilities.field_syntax
        entries = [
            plain(entry)
            | {
                "write": syntax.format(tag=entry.tag),
                "filled": counts[entry.tag].filled,
                "cut": counts[entry.tag].cut,
                "dropped": counts[entry.tag].dropped,
            }
            for entry in job.mapping.dictionary()
        ]
        tags = job.mapping.schema().tags
    output.json({"fields": entries, "tags": tags})
    output.table(
        f"Fields of {job.destination}",
        ["write", "label", "type", "contacts", "shortened", "means", "empty when"],
        [
            [
                each["write"],
                each["label"],
                each["type"],
                each["filled"],
                each["cut"],
                each["description"],
                each["null_means"],
            ]
            for each in entries
        ],
    )
    output.say(f"Tags: {', '.join(tags) or 'none'}")
