"""The project of the ugly shop, made by init and built, and copies of it to break."""

import shutil
from pathlib import Path

import pytest

from .ugly_shop import EXPORT, QUALITY, SECRETS, segue


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    for name, text in EXPORT.items():
        (folder / name).write_bytes(text.encode("windows-1252"))
    return folder


@pytest.fixture(scope="session")
def built(export: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project made by init from ugly exports, checked, and built."""
    folder = tmp_path_factory.mktemp("projects") / "shop"
    assert segue("init", folder, "--data", export).code == 0
    config = folder / "segue.yml"
    # One address in five is broken here; a real shop that has as many should stop and look.
    config.write_text(f"{config.read_text(encoding='utf-8')}\n{QUALITY}", encoding="utf-8")
    checked = segue("check", "-p", folder, env=SECRETS)
    assert checked.code == 0, checked.err
    ended = segue("build", "-p", folder)
    assert ended.code == 0, ended.err
    return folder


@pytest.fixture
def broken(built: Path, tmp_path: Path) -> Path:
    """A copy of the project to break, without its snapshot."""
    folder = tmp_path / "copy"
    (folder / "mappings").mkdir(parents=True)
    text = (built / "segue.yml").read_text(encoding="utf-8")
    export = next(line for line in text.splitlines() if "kunden.csv" in line).split(": ", 1)[1]
    absolute = (built / Path(export).parent).resolve()
    text = text.replace(str(Path(export).parent), str(absolute))
    (folder / "segue.yml").write_text(text, encoding="utf-8")
    mapping = (built / "mappings" / "mailchimp.yml").read_text(encoding="utf-8")
    (folder / "mappings" / "mailchimp.yml").write_text(mapping, encoding="utf-8")
    return folder


@pytest.fixture
def rebuildable(built: Path, broken: Path) -> Path:
    """A copy of the project to break, with its snapshot."""
    shutil.copytree(built / ".segue", broken / ".segue")
    return broken
