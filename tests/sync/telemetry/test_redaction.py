"""No address, no hash of one and no secret passes the last wall, in whatever form it comes."""

import hashlib
import json
import string
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from segue.sync.telemetry.redaction import HIDDEN, Redactor

FORMS = (
    str,
    quote,
    quote_plus,
    lambda text: quote(text, safe=""),
    lambda text: quote(quote(text)),
    str.upper,
    lambda text: text.encode(),
)
AROUND = st.text(max_size=20)
SECRETS = st.text(string.ascii_letters + string.digits + "-_./+=@:% ", min_size=6, max_size=40)


def nested(text: Any, depth: int) -> Any:
    """Put a text somewhere into a value that somebody might log."""
    shapes = (
        text,
        [text],
        {"a": text},
        {text: 1},
        {"a": ({"b": {text}},)},
        ValueError(text),
        (1, None, text),
    )
    return shapes[depth % len(shapes)]


def shown(wall: Redactor, value: Any) -> str:
    return json.dumps(wall.value({"event": value}), ensure_ascii=False).casefold()


@given(st.emails(), st.sampled_from(FORMS), AROUND, AROUND, st.integers(0, 6))
def test_no_address_is_shown(address: str, form: Any, before: str, after: str, depth: int) -> None:
    told = form(address)
    told = before.encode() + told + after.encode() if isinstance(told, bytes) else before + told + after
    line = shown(Redactor(), nested(told, depth))
    for each in (address, quote(address), quote_plus(address)):
        assert each.casefold() not in line
    assert HIDDEN in line


@given(st.emails())
def test_no_local_part_of_an_address_in_a_path_is_shown(address: str) -> None:
    local = address.partition("@")[0] + "-local"
    line = Redactor().text(f"PUT /lists/1/members/{quote(local)}%40shop.example?x=1 failed")
    assert line in {f"PUT {HIDDEN} failed", f"PUT /lists/1/members/{HIDDEN} failed"}


@pytest.mark.parametrize(
    "text",
    [
        '"ann smith"@shop.example',
        "<ann@shop.example>",
        "mailto:ann@shop.example",
        "ann@[10.0.0.1]",
        "ann&#64;shop.example",
        r"ann\u0040shop.example",
        "ann\uff20shop.example",
        "änn@shöp.example",
    ],
)
def test_an_address_of_any_shape_is_hidden(text: str) -> None:
    said = Redactor().text(f"said {text} twice")
    assert not {"ann", "änn", "shop", "shöp", "10.0"} & {
        word for word in ("ann", "änn", "shop", "10.0") if word in said
    }
    assert said.startswith("said ")
    assert said.endswith(" twice")


@example("two words/one", "", "", lambda text: quote(text, safe=""), 0)
@given(SECRETS, AROUND, AROUND, st.sampled_from(FORMS[:4]), st.integers(0, 6))
def test_no_secret_is_shown(secret: str, before: str, after: str, form: Any, depth: int) -> None:
    wall = Redactor()
    wall.learn(["something-else", secret])
    line = shown(wall, nested(before + form(secret) + after, depth))
    for each in (secret, quote(secret, safe=""), quote_plus(secret)):
        assert each.casefold() not in line


@given(st.emails(), st.sampled_from([str.lower, str.upper]))
def test_no_hash_of_an_address_is_shown(address: str, case: Any) -> None:
    for digest in (hashlib.md5, hashlib.sha256):
        told = case(digest(address.lower().encode()).hexdigest())
        assert Redactor().text(f"GET /members/{told}/tags") == f"GET /members/{HIDDEN}/tags"


def test_a_number_that_is_a_secret_is_hidden_and_others_stay_numbers() -> None:
    wall = Redactor()
    wall.learn(["12345678"])
    assert wall.value([12345678, 7, 0.5, None, True]) == [HIDDEN, 7, 0.5, None, True]


def test_what_is_harmless_stays_as_it_is() -> None:
    told = {"run_id": "20261122T031502-34093b", "writes": 12, "path": "GET /lists/a1b2/members", "done": True}
    assert Redactor().value(told) == told


def test_a_long_text_without_an_address_takes_no_time() -> None:
    """With a plain expression this would take a minute: the time would grow with the square of the length."""
    text = "x" * 200_000
    assert Redactor().text(text) == text
    assert Redactor().text("@" * 50_000) == HIDDEN
