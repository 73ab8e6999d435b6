"""Plots as SVG texts, drawn by matplotlib without a display."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from crossrank.errors import MissingExtra

# Colours that stay apart for most people with a colour vision deficiency. Source: Okabe and Ito (2008).
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#999999"
_COLOURS = (BLUE, ORANGE, GREEN, VERMILION, "#CC79A7", "#56B4E9", "#F0E442", "#000000")

_MOST_POINTS = 600


def draw(paint: Callable[[Any], None], *, width: float = 7.0, height: float = 3.5) -> str:
    """Return a plot as an SVG element.

    Args:
        paint: Draws into the axes that it is handed.
        width: In inches.
        height: In inches.

    Raises:
        MissingExtra: If matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("drawing plots", extra="eval") from error
    # Text stays text, and the ids inside come from a fixed salt: the same numbers give the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "crossrank", "font.size": 9}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        paint(axes)
        buffer = io.StringIO()
        with warnings.catch_warnings():
            # Text stays text: the browser has the letters that matplotlib's own font lacks.
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _plain(name: str) -> str:
    """Return a name as matplotlib takes it for text, and not for mathematics between dollar signs."""
    return name.replace("$", r"\$")


def forest(rows: Sequence[tuple[str, float, tuple[float, float]]], *, label: str) -> str:
    """Draw a difference with its interval a row, and a line at 0.

    Args:
        rows: Name, difference, both ends of its interval.
        label: Of the axis.
    """

    def paint(axes: Any) -> None:
        for place, (_, delta, (low, high)) in enumerate(rows):
            colour = GREEN if low > 0 else VERMILION if high < 0 else GREY
            axes.plot([low, high], [place, place], color=colour, linewidth=2)
            axes.plot([delta], [place], marker="o", color=colour)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(rows)), [_plain(name) for name, _, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(_plain(label))

    return draw(paint, height=1.2 + 0.28 * len(rows))


def sorted_differences(differences: npt.NDArray[np.float64], *, label: str) -> str:
    """Draw the difference of every query, the best first: how many won and lost, and by how much."""
    ordered = np.sort(differences)[::-1]
    # More points than the plot has dots would only make the file large.
    places = np.unique(np.linspace(0, len(ordered) - 1, _MOST_POINTS).astype(int))
    # Every query is one wide, also the last one.
    edges, heights = np.append(places, len(ordered)), np.append(ordered[places], ordered[-1])

    def paint(axes: Any) -> None:
        for part, colour in ((heights > 0, GREEN), (heights < 0, VERMILION)):
            axes.fill_between(edges, 0, np.where(part, heights, 0), color=colour, step="post", linewidth=0)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xlim(0, len(ordered))
        axes.set_xlabel("queries, sorted")
        axes.set_ylabel(_plain(label))

    return draw(paint, height=2.4)


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_label: str,
    y_label: str,
    diagonal: bool = False,
) -> str:
    """Draw points `(x, y)` with y from 0 to 1, joined by lines, one colour a series.

    Args:
        series: Points by name.
        x_label: Of the axis.
        y_label: Of the axis.
        diagonal: Also draw the line `y = x`.
    """

    def paint(axes: Any) -> None:
        if diagonal:
            axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=0.8)
        for place, (name, points) in enumerate(series.items()):
            x, y = [x for x, _ in points], [y for _, y in points]
            axes.plot(x, y, marker="o", markersize=4, color=_COLOURS[place % len(_COLOURS)], label=_plain(name))
        axes.set_ylim(0, 1.02)
        axes.set_xlabel(_plain(x_label))
        axes.set_ylabel(_plain(y_label))
        axes.legend(frameon=False)

    return draw(paint)


def scatter(points: Sequence[tuple[str, float, float]], frontier: Sequence[str], *, x_label: str, y_label: str) -> str:
    """Draw named points on a logarithmic x axis, and a line through those that no other beats in both.

    Args:
        points: Name, x and y.
        frontier: Names of the points of the line.
        x_label: Of the axis.
        y_label: Of the axis.
    """

    def paint(axes: Any) -> None:
        best = sorted((x, y) for name, x, y in points if name in frontier)
        axes.step([x for x, _ in best], [y for _, y in best], where="post", color=GREY, linewidth=1)
        for name, x, y in points:
            axes.plot([x], [y], marker="o", color=BLUE if name in frontier else GREY)
            axes.annotate(_plain(name), (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8)
        axes.set_xscale("log")
        axes.set_xlabel(_plain(x_label))
        axes.set_ylabel(_plain(y_label))
        axes.margins(x=0.25, y=0.2)

    return draw(paint, height=4.0)
