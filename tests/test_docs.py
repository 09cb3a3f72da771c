"""Docs that cannot rot: reference pages are made from the code, and each command stands in the README.

`python tests/test_docs.py` writes the pages anew.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from segue.connectors.described import described
from segue.connectors.registry import OURS, connector_class
from segue.core.config import project_schema
from segue.core.data.canonical import EVENT_TYPES, TABLES, LineKind
from segue.core.data.rules import RULES
from segue.core.features import engagement, person, purchases
from segue.core.model import Trait
from segue.core.scores import rfm
from segue.mappings.mapping import mapping_schema
from segue.sync.rights.check import _LOOKS
from segue.sync.rights.rules import RULES as PRIVACY_RULES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def traits_page() -> str:
    def part(title: str, traits: Iterable[Trait]) -> str:
        rows = [(f"`{t.name}`", t.type.value, t.description, t.null_means) for t in traits]
        return f"## {title}\n\n{table(('trait', 'type', 'meaning', 'no value when'), rows)}"

    return "\n\n".join(
        (
            prose("traits"),
            part("The person", person.PERSON),
            part("Orders", purchases.PURCHASES),
            part("Events", engagement.ENGAGEMENT),
            part("RFM", rfm.RFM),
        )
    )


def data_page() -> str:
    tables = [
        f"### {name}\n\n"
        + table(
            ("column", "type", "required", "meaning"),
            [(f"`{c.name}`", str(c.type), "yes" if c.required else "", c.description) for c in columns],
        )
        for name, columns in TABLES.items()
    ]
    rules = [
        (f"`{rule.name}`", rule.level, rule.description, rule.refused.value, rule.warned.value)
        for rule in RULES.values()
    ]
    return "\n\n".join(
        (
            prose("data"),
            "## Tables",
            *tables,
            "## Event types",
            "Any name in snake_case may be used; these have words of their own.",
            table(("event", "words"), [(f"`{name}`", words) for name, words in EVENT_TYPES.items()]),
            "## Kinds of order lines",
            ", ".join(f"`{kind}`" for kind in LineKind) + ": what each means stands in [traits](traits.md).",
            "## Rules",
            "`quality.rules` in `segue.yml` sets a rule to `refuse`, `warn` or `off`.",
            table(("rule", "by default", "broken when", "at refuse", "at warn"), rules),
        )
    )


def settings_page() -> str:
    def sections(schema: Mapping[str, Any]) -> Iterable[str]:
        yield rows(schema)
        for name, part in schema.get("$defs", {}).items():
            if "properties" in part:
                yield f"### {name}\n\n{part['description']}\n\n{rows(part)}"

    def rows(part: Mapping[str, Any]) -> str:
        required = part.get("required", ())
        return table(
            ("setting", "required", "meaning"),
            [
                (
                    f"`{name}`",
                    "yes" if name in required else "",
                    setting.get("description") or f"See {setting['$ref'].rpartition('/')[2]}.",
                )
                for name, setting in part["properties"].items()
            ],
        )

    return "\n\n".join(
        (
            prose("settings"),
            "## segue.yml",
            *sections(project_schema()),
            "## A mapping file",
            "[Mappings](mappings.md) shows how they go together.",
            *sections(mapping_schema()),
        )
    )


def connectors_page() -> str:
    found = [described(connector_class(name)) for name in sorted(OURS)]
    rows = [
        (what, *(str(each[what]) for each in found)) for what in found[0] if what not in {"name", "label"}
    ]
    return "\n\n".join(
        (
            prose("connectors"),
            "## What each can do",
            table(("", *(each["label"] for each in found)), rows),
        )
    )


PAGES = {"connectors": connectors_page, "traits": traits_page, "data": data_page, "settings": settings_page}
_MADE = "\n\n<!-- From here on the page is made from the code by tests/test_docs.py. -->"


def prose(page: str) -> str:
    """Give the written part of a page: all that stands before the part that is made."""
    return (DOCS / f"{page}.md").read_text().partition(_MADE)[0] + _MADE


@pytest.mark.parametrize("page", PAGES)
def test_a_reference_page_is_what_the_code_says(page: str) -> None:
    assert (DOCS / f"{page}.md").read_text() == PAGES[page]() + "\n"


def _settings(schema: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for section in (schema, *schema.get("$defs", {}).values()):
        yield from section.get("properties", {}).items()


@pytest.mark.parametrize("schema", [project_schema, mapping_schema])
def test_every_setting_says_what_it_is(schema: Any) -> None:
    silent = [
        name
        for name, setting in _settings(schema())
        if "description" not in setting and "$ref" not in setting
    ]
    assert silent == []


def test_every_command_is_in_the_readme_and_says_what_it_does() -> None:
    from segue.sync.cli.app import app, load_groups

    load_groups()
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    readme = (ROOT / "README.md").read_text()
    for prefix, typer in {"": app, **groups}.items():
        assert typer is not None
        for command in typer.registered_commands:
            assert command.callback is not None
            name = f"{prefix} {command.name or command.callback.__name__}".strip()
            assert re.search(rf"`{name}`", readme), f"README.md does not name `{name}`"
            assert command.callback.__doc__, name


def test_every_rule_of_the_privacy_check_is_looked_at_and_documented() -> None:
    assert set(PRIVACY_RULES) == {*_LOOKS, "acceptance_without_finding"}
    page = (DOCS / "privacy.md").read_text()
    for rule in PRIVACY_RULES.values():
        assert f"`{rule.name}`" in page
        assert rule.why in page
        assert rule.fix in page


def test_every_example_link_in_the_docs_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *DOCS.glob("*.md"), *(ROOT / "examples").rglob("README.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


if __name__ == "__main__":
    for name, make in PAGES.items():
        (DOCS / f"{name}.md").write_text(make() + "\n")
    sys.stdout.write(f"{', '.join(PAGES)}: written\n")
