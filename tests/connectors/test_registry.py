"""Connectors of other packages: found by their entry points, and named when they are broken."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from segue.connectors import registry
from segue.connectors.mailchimp.connector import Mailchimp
from segue.connectors.registry import GROUP, OURS, connector_class, listed
from segue.core.errors import ConfigError


class Acme(Mailchimp):
    name = "acme"


class Nameless(Mailchimp):
    name = "other"


NOT_A_CONNECTOR = object()


@pytest.fixture
def bring(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Let packages bring connectors: each `name = where`."""

    def install(**entries: str) -> None:
        found = [EntryPoint(name=name, value=value, group=GROUP) for name, value in entries.items()]
        monkeypatch.setattr(registry, "entry_points", lambda group: found if group == GROUP else [])
        registry._others.cache_clear()

    yield install
    monkeypatch.undo()
    registry._others.cache_clear()


def test_a_connector_of_another_package_is_found_by_its_name(bring: Any) -> None:
    bring(acme=f"{__name__}:Acme")
    assert connector_class("acme") is Acme
    assert {each.name for each in listed()} == {"acme", *OURS}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no_such_package.connector:Acme", "cannot be loaded .* ModuleNotFoundError"),
        (f"{__name__}:Missing", "cannot be loaded .* AttributeError"),
        (f"{__name__}:NOT_A_CONNECTOR", "is no connector"),
        (f"{__name__}:Nameless", 'calls itself "other"'),
        ("segue.connectors.base:Connector", "is not whole: it lacks check"),
    ],
)
def test_a_broken_one_is_named_and_takes_no_other_down(bring: Any, value: str, said: str) -> None:
    bring(acme=value)
    with pytest.raises(ConfigError, match=f'"acme".*{said}'):
        connector_class("acme")
    assert connector_class("mailchimp") is Mailchimp
    assert "acme" in {each.name for each in listed()}


def test_no_package_takes_a_name_of_ours(bring: Any) -> None:
    bring(mailchimp=f"{__name__}:Acme")
    with pytest.raises(ConfigError, match="Segue has one of that name itself"):
        connector_class("mailchimp")


def test_an_unknown_name_is_said_with_those_of_other_packages(bring: Any) -> None:
    bring(acme=f"{__name__}:Acme")
    with pytest.raises(ConfigError, match=r'Did you mean "acme"\?'):
        connector_class("acmee")
