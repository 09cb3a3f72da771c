"""An outsider's connector: made by a command, installed by pip, found by name, and tested by the contract."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .ugly_shop import segue


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip installed a package that `segue connectors new` wrote."""
    folder = tmp_path_factory.mktemp("outside")
    made = segue("connectors", "new", "acme", "--folder", str(folder))
    assert made.code == 0, made.err
    site, package = str(folder / "site"), str(folder / "segue-acme")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, package]
    subprocess.run(pip, check=True)
    return folder


def outside(installed: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(installed / "site")}
    return subprocess.run(
        [sys.executable, *command],
        env=environment,
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_it_is_found_by_its_name_and_described(installed: Path) -> None:
    run = outside(installed, "-m", "segue.sync.cli", "connectors", "list", "--json")
    assert '"name": "acme"' in run.stdout, run.stderr
    assert '"package": "segue-acme 0.1.0"' in run.stdout
    assert "Acme" in outside(installed, "-m", "segue.sync.cli", "connectors", "describe", "acme").stdout


@pytest.mark.slow
def test_it_passes_the_contract_from_the_first_day(installed: Path) -> None:
    run = outside(
        installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", installed / "segue-acme" / "tests"
    )
    assert run.returncode == 0, run.stdout
    assert " passed" in run.stdout


@pytest.mark.slow
def test_one_that_is_broken_is_named_and_takes_no_other_down(installed: Path) -> None:
    source = installed / "site" / "segue_acme" / "connector.py"
    whole = source.read_text()
    source.write_text("import no_such_module\n")
    try:
        run = outside(installed, "-m", "segue.sync.cli", "connectors", "list", "--json")
        assert run.returncode == 0
        assert "segue-acme 0.1.0 cannot be loaded" in run.stdout
        assert '"label": "Mailchimp"' in run.stdout
    finally:
        source.write_text(whole)


@pytest.mark.parametrize("name", ["mailchimp", "A", "../x", "a-b"])
def test_a_name_that_is_none_or_ours_is_refused(name: str, tmp_path: Path) -> None:
    refused = segue("connectors", "new", name, "--folder", str(tmp_path))
    assert refused.code == 2
    assert "cannot be the name" in refused.err
    assert list(tmp_path.iterdir()) == []
