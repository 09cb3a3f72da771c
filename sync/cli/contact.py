"""The commands about one contact.

Lives here: their words. Must not: gather anything; `sync.contact` does.
"""

from pathlib import Path
from typing import Annotated

import typer

from .app import AsJson, ProjectFolder, app
from .output import Output, words

contact = typer.Typer(help="What is known of one contact.")
app.add_typer(contact, name="contact")


@contact.command()
def show(
    who: Annotated[str, typer.Argument(help="A contact id or an e-mail address.")],
    project: ProjectFolder = Path(),
    *,
    as_json: AsJson = False,
) -> None:
    """Show a contact's traits, segments, products, consent, and what each destination holds of them."""
    from ...core.config import load_project
    from ...core.snapshot import current
    from ..contact import view
    from ..store.store import Store

    output = Output(as_json=as_json)
    loaded = load_project(project)
    with Store.of(loaded) as store:
        seen = view(loaded, current(loaded.state_folder), store, who)
    output.json(seen)
    output.say(f"Contact {seen.contact_id}", style="bold")
    output.table(
        "Traits", ["trait", "value"], [[k, words(v)] for k, v in seen.traits.items() if v is not None]
    )
    for group, segment in seen.groups.items():
        output.say(f"{group}: {segment}")
    output.say(f"Segments: {', '.join(seen.segments) or 'none'}")
    if seen.recommendations:
        output.table(
            "Products",
            ["recommendation", "slot", "product", "why"],
            [
                [row["recommendation"], row["slot"], row["name"], row["reason"]]
                for row in seen.recommendations
            ],
        )
    output.say(f"Consent: {seen.consent}")
    for line in seen.history:
        entry = line.entry
        proof = ", ".join(f"{name} {value}" for name, value in entry.evidence.items()) or "no evidence"
        output.say(
            f"  {entry.occurred_at:%Y-%m-%d} {entry.act} ({line.subject_kind}), {entry.source}: {proof}"
        )
    for name, side in seen.destinations.items():
        if side.withheld:
            output.say(f"{name}: withheld by the newest plan ({side.withheld})", style="yellow")
        if side.confirmed is None:
            output.say(f"{name}: nothing of ours there" + (f", is {side.state}" if side.state else ""))
            continue
        output.table(
            f"{name}: confirmed there" + (f", is {side.state}" if side.state else ""),
            ["field", "value"],
            [*sorted(side.confirmed.fields.items()), ("tags", ", ".join(sorted(side.confirmed.tags)))],
        )
