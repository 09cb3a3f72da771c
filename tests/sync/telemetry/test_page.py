"""A run's page needs no network and no script, escapes what it shows, and says in words what to do next."""

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from segue.core.errors import (
    AuthenticationError,
    BugError,
    ConfigError,
    ConsentError,
    DestinationError,
    GuardrailError,
    RetryableError,
    SegueError,
    StoreError,
    UnsupportedFeatureError,
)
from segue.sync.store.runs import Run, RunStatus
from segue.sync.telemetry.page import page
from segue.sync.telemetry.plots import reasons_plot, requests_plot
from segue.sync.telemetry.words import summary

BEGAN = datetime(2026, 3, 1, 3, 15, tzinfo=UTC)
TIMELINE = {"seconds": 1.0, "requests": [4, 9, 0, 7], "refused": [0, 2, 0, 0], "failed": [0, 0, 0, 1]}
FULL: dict[str, Any] = {
    "outcomes": {"create": {"applied": 3144, "rejected": 41}, "opt_out": {"applied": 9}},
    "reasons": [
        {"status": "rejected", "code": "E<1>", "reason": "<script>alert(1)</script> & more", "count": 40},
        {"status": "rejected", "code": "E2", "reason": "looks fake", "count": 1},
        {"status": "deferred", "code": "RetryableError", "reason": "failed (503)", "count": 3},
    ],
    "withheld": {"no_grant": 809},
    "planned": {"create": 3185},
    "new_fields": ["SG_SPENT"],
    "fields_changed": {"SG_ORDERS": 12},
    "tags_added": {"segue: <big>": 300},
    "tags_removed": {"segue: big": 20},
    "waiting": 3,
    "pulled": 512,
    "left": 7,
    "requests": {
        "read": 9,
        "write": 11,
        "by_status": {"2xx": 17, "4xx": 2, "none": 1},
        "throttled": 2,
        "failed": 1,
        "retried": 3,
        "limits": [{"count": 100, "seconds": 10.0}],
        "timeline": TIMELINE,
    },
    "phases": {"pull": 1.5, "plan": 3.0, "apply": 75.0},
    "seconds": 80.0,
    "snapshot_id": "20260301T000000Z-8b9cd3220f3d",
    "plan_id": "20260301T031501-a1b2c3d4",
    "unchanged": 40211,
    "new_contacts": 3144,
    "guardrails": [],
    "warnings": ["The alert of segue.yml:41 was not delivered."],
    "notes": [],
    "stale": 0,
    "error": None,
    "error_kind": None,
    "versions": {"segue": "0.1.0", "python": "3.11"},
}
ALL_STATES = [
    (RunStatus.RUNNING, None, {}),
    (RunStatus.INTERRUPTED, None, {}),
    (RunStatus.FINISHED, 0, {}),
    (RunStatus.FINISHED, 1, FULL),
    (RunStatus.FAILED, 4, {"stale": 3}),
    *[
        (RunStatus.FAILED, error.exit_code, {"error": "<b>It failed.</b>", "error_kind": error.__name__})
        for error in (
            AuthenticationError,
            BugError,
            ConfigError,
            ConsentError,
            DestinationError,
            GuardrailError,
            RetryableError,
            SegueError,
            StoreError,
            UnsupportedFeatureError,
        )
    ],
]


def run(status: RunStatus, code: int | None, report: dict[str, Any], *, kind: str = "run") -> Run:
    return Run(
        run_id="20260301T031500-34093b",
        destination="newsletter",
        kind=kind,
        started_at=BEGAN,
        finished_at=BEGAN + timedelta(seconds=80),
        status=status,
        exit_code=code,
        report=report,
    )


class Reader(HTMLParser):
    """Reads a page: its elements with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "br", "use"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "use":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "metadata"} & set(self.open):
            self.words += data


@pytest.mark.parametrize(("status", "code", "report"), ALL_STATES)
def test_every_way_a_run_can_end_has_a_page_with_words(
    status: RunStatus, code: int | None, report: dict[str, Any]
) -> None:
    for kind in ("run", "plan", "pull", "apply", "verify", "rollback"):
        ended = run(status, code, report, kind=kind)
        read = Reader(page(ended, "myshop"))
        assert read.open == []
        assert summary(ended).headline in read.words
        assert summary(ended).well is (code in (0, 1) or status is RunStatus.RUNNING)
        for step in summary(ended).steps:
            assert step.text in read.words


def test_a_page_loads_nothing_and_runs_nothing() -> None:
    text = page(run(RunStatus.FINISHED, 1, FULL), "myshop")
    read = Reader(text)
    assert not {tag for tag, _ in read.elements} & {"script", "link", "img", "iframe", "object", "form"}
    for _, attributes in read.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"href", "src", "xlink:href", "action"}:
                assert (value or "").startswith("#")
    assert re.findall(r"url\((?!#)|@import|https?://", re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)) == []


def test_what_an_esp_or_a_tag_says_is_text_and_no_markup() -> None:
    text = page(run(RunStatus.FINISHED, 1, FULL), "my<shop>")
    read = Reader(text)
    assert "<script>alert(1)</script> & more" in read.words
    assert "segue: <big>" in read.words
    assert "<script" not in text


def test_ids_are_unique_and_every_reference_leads_somewhere() -> None:
    read = Reader(page(run(RunStatus.FINISHED, 1, FULL), "myshop"))
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in read.elements:
        for name in ("href", "xlink:href"):
            if name in attributes:
                assert (attributes[name] or "").removeprefix("#") in ids
    assert set(re.findall(r"url\(#([^)]*)\)", page(run(RunStatus.FINISHED, 1, FULL), ""))) <= set(ids)


def test_a_page_shows_the_figures_of_its_run() -> None:
    words = Reader(page(run(RunStatus.FINISHED, 1, FULL), "myshop")).words
    for shown in (
        "3,153 changes arrived, 41 were refused, 3 wait for the next run.",
        "segue rejected newsletter",
        "no recorded grant: nobody is written who has not agreed",
        "The limit is 100 in 10 s.",
        "1 min 15 s",
        "SG_ORDERS",
        "New at the platform: SG_SPENT.",
        "The alert of segue.yml:41 was not delivered.",
        "20260301T031501-a1b2c3d4",
    ):
        assert shown in words


def test_the_plots_say_in_words_what_they_show_and_are_whole_svg() -> None:
    over_time = requests_plot(TIMELINE, [{"count": 100, "seconds": 10.0}])
    root = ET.fromstring(over_time)  # noqa: S314 - our own
    assert root.get("role") == "img"
    assert root.get("aria-label") == (
        "Requests over time: 20 in all, 2 told to slow down, 1 failed."
        " The busiest 1 seconds had 9; the declared limit allows 100."
    )
    assert "declared limit" in over_time
    reasons = ET.fromstring(reasons_plot({f"code <{n}>": n for n in range(1, 12)}))  # noqa: S314
    assert (reasons.get("aria-label") or "").startswith("Refused by reason: code <11> 11, code <10> 10")
    assert "3 more 6" in (reasons.get("aria-label") or "")
    assert "$x_1$" in reasons_plot({"$x_1$": 1})


def test_plots_take_their_colours_from_the_page_so_that_dark_mode_reaches_them() -> None:
    text = requests_plot(TIMELINE, []) + reasons_plot({"a": 1})
    assert re.findall(r"#[0-9a-f]{6}\b", text) == []
    assert {"var(--ink)", "var(--good)", "var(--bad)"} <= set(re.findall(r"var\(--\w+\)", text))


def test_equal_runs_have_equal_pages() -> None:
    assert page(run(RunStatus.FINISHED, 1, FULL), "a") == page(run(RunStatus.FINISHED, 1, FULL), "a")


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_words_and_bars_stand_out_in_light_and_in_dark() -> None:
    text = page(run(RunStatus.FINISHED, 0, {}), "myshop")
    schemes = re.findall(r":root \{([^}]*)\}", text)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        for name, least in {
            "ink": 7,
            "soft": 4.5,
            "link": 4.5,
            "bad": 4.5,
            "calm": 4.5,
            "good": 3,
            "slow": 4.5,
        }.items():
            for ground in ("paper", "card"):
                light, dark = sorted((_luminance(colours[name]), _luminance(colours[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= least, (name, ground)
