"""What is installed is what the folders hold, and the layers keep apart."""

import ast
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("core", "connectors", "mappings", "sync")


def _modules() -> list[Path]:
    return [path for part in PARTS for path in (ROOT / part).rglob("*.py")]


def test_every_package_folder_is_listed() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {
        "segue." + ".".join(path.parent.relative_to(ROOT).parts)
        for path in _modules()
        if path.name == "__init__.py"
    }
    assert folders == listed


def test_every_folder_with_code_is_a_package() -> None:
    assert [path for path in _modules() if not (path.parent / "__init__.py").exists()] == []


def test_the_top_level_holds_what_was_agreed() -> None:
    shown = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    top = {Path(name).parts[0] for name in shown if name and not name.startswith(".")}
    assert top <= {*PARTS, "tests", "docs", "examples", "benchmarks", "pyproject.toml", "README.md"} | {
        "LICENSE", "CHANGELOG.md", "Makefile"
    }  # fmt: skip


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_product_code_imports_its_own_parts_relatively(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and node.level == 0
            else []
        )
        for name in names:
            assert name.partition(".")[0] not in {*PARTS, "segue"}, name


def test_the_version_comes_from_the_distribution() -> None:
    shown = subprocess.run(
        [Path(sys.executable).with_name("segue"), "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert metadata.version("segue") in shown


def test_every_part_says_that_it_is_typed() -> None:
    assert [part for part in PARTS if not (ROOT / part / "py.typed").exists()] == []
