"""The plots of a run's page, as SVG that stands in the page and takes its colours from it.

Only counts come in. matplotlib draws, because it is well kept and writes static SVG with real text; libraries that
need a script in the page, or a browser to make an image, lost.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BARS: Final = 60  # as many as can be told apart on a phone
_WIDTH: Final = 6.0  # inches of 72 units; the page scales it, and text must stay legible at 400 pixels
_FEW: Final = 6
_REASONS: Final = 8

# What matplotlib is told, and what the page's style sheet calls it, in light and in dark.
_COLOURS: Final = {
    "#010101": "var(--ink)",
    "#010102": "var(--soft)",
    "#010103": "var(--edge)",
    "#010104": "var(--good)",
    "#010105": "var(--slow)",
    "#010106": "var(--bad)",
}
_INK, _SOFT, _EDGE, _GOOD, _SLOW, _BAD = _COLOURS
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "segue",
    "text.parse_math": False,  # a code with a dollar sign is no formula
    "font.size": 13,
    "text.color": _INK,
    "axes.edgecolor": _EDGE,
    "axes.labelcolor": _SOFT,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "grid.color": _EDGE,
    "hatch.color": _INK,
    "hatch.linewidth": 0.6,
}


def requests_plot(timeline: Mapping[str, Any], limits: Sequence[Mapping[str, Any]]) -> str:
    """Draw the requests of a run over time: answered, told to slow down, failed; and the lowest declared limit."""
    from matplotlib.ticker import MaxNLocator

    points = list(zip(timeline["requests"], timeline["refused"], timeline["failed"], strict=True))
    merged = max(1, math.ceil(len(points) / _BARS))
    # A bar is as wide as the limit's window if that leaves enough of them: then its height compares with the limit.
    window = max((math.ceil(limit["seconds"] / timeline["seconds"]) for limit in limits), default=1)
    if window * _FEW <= len(points):
        merged = max(merged, window)
    width = merged * float(timeline["seconds"])
    bars = [
        [sum(column) for column in zip(*points[start : start + merged], strict=True)]
        for start in range(0, len(points), merged)
    ]
    unit, name = (60.0, "minutes") if len(points) * timeline["seconds"] > 300 else (1.0, "seconds")
    # In less than its window a burst may use a limit up; in more, what follows from its rate.
    allowed = min((limit["count"] * max(1.0, width / limit["seconds"]) for limit in limits), default=None)

    def draw(axes: "Axes") -> None:
        edges = [index * width / unit for index in range(len(bars))]
        bottom = [0] * len(bars)
        series = (
            ("answered", _GOOD, "", [total - refused - failed for total, refused, failed in bars]),
            ("told to slow down", _SLOW, "///", [refused for _, refused, _ in bars]),
            ("failed", _BAD, "xxx", [failed for *_, failed in bars]),
        )
        for label, colour, hatch, heights in series:
            if any(heights) or label == "answered":
                axes.bar(
                    edges,
                    heights,
                    width / unit * 0.86,
                    bottom,
                    align="edge",
                    color=colour,
                    hatch=hatch,
                    label=label,
                )
                bottom = [low + high for low, high in zip(bottom, heights, strict=True)]
        if allowed is not None:
            axes.axhline(allowed, color=_INK, linestyle=(0, (4, 3)), linewidth=1.4, label="declared limit")
        axes.set_xlabel(f"{name} since the start")
        axes.set_ylabel(f"requests in {width:g} s")
        axes.grid(axis="y", linewidth=0.6)
        axes.margins(x=0.01, y=0.1)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.24),
            ncols=2,
            frameon=False,
            handlelength=1.4,
            columnspacing=1.2,
        )

    total, refused, failed = (sum(column) for column in zip(*points, strict=True))
    said = f"Requests over time: {total:,} in all, {refused:,} told to slow down, {failed:,} failed."
    if allowed is not None:
        highest = max(sum(bar[:1]) for bar in bars)
        said += f" The busiest {width:g} seconds had {highest:,}; the declared limit allows {allowed:,.0f}."
    return _svg("requests", draw, said, height=3.6)


def reasons_plot(counts: Mapping[str, int]) -> str:
    """Draw how often each reason was given, the most frequent on top."""
    ordered = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
    shown = ordered[:_REASONS]
    if rest := sum(number for _, number in ordered[_REASONS:]):
        shown.append((f"{len(ordered) - _REASONS} more", rest))

    def draw(axes: "Axes") -> None:
        places = range(len(shown))
        axes.barh(places, [number for _, number in shown], 0.42, color=_BAD)
        most = max(number for _, number in shown)
        for place, (reason, number) in zip(places, shown, strict=True):
            axes.text(0, place - 0.3, reason, va="bottom", ha="left", color=_INK)
            axes.text(number + most * 0.015, place, f"{number:,}", va="center", ha="left", color=_SOFT)
        axes.set_xlim(0, most * 1.16)
        axes.set_ylim(len(shown) - 0.6, -0.8)
        axes.set_axis_off()

    said = "Refused by reason: " + ", ".join(f"{reason} {number:,}" for reason, number in shown) + "."
    return _svg("reasons", draw, said, height=0.35 + 0.62 * len(shown))


def _svg(name: str, draw: Callable[["Axes"], None], said: str, *, height: float) -> str:
    """Draw into an SVG element with its description, colours by the page, and ids of its own."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), facecolor="none", layout="constrained")
        axes = figure.add_subplot(facecolor="none")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        draw(axes)
        file = StringIO()
        figure.savefig(
            file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = file.getvalue()
    text = text[text.index("<svg") :]
    for told, meant in _COLOURS.items():
        text = text.replace(told, meant)
    # Two plots in one page must not share ids.
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r'(<svg [^>]*?) width="[^"]*"| height="[^"]*"(?=[^>]*viewBox)', r"\1", text, count=2)
    label = f'role="img" aria-label="{escape(said)}"'
    return text.replace("<svg ", f"<svg {label} ", 1)
