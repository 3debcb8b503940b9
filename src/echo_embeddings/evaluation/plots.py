"""Scores as a picture: a bar chart in SVG, the same bytes for the same scores."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from echo_embeddings.data.files import whole_file
from echo_embeddings.extras import require

__all__ = ["bars"]

_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")
_WIDTH, _OF_A_TASK = 8.0, 0.22  # inches
# Characters that leave room for the bars.
_LONGEST_NAME, _LONGEST_LABEL = 40, 90


def bars(path: Path, names: Sequence[str], rows: Mapping[str, Sequence[float | None]], axis: str) -> None:
    """Write one group of horizontal bars for each name, one bar for each row.

    Args:
        path: the SVG file to write.
        names: what the groups are called, from the top: any text, such as names of files.
        rows: by their labels in the legend, a value for each name; ``None`` has no bar.
        axis: what the values are.

    Raises:
        ImportError: matplotlib is missing.
    """
    require("matplotlib", "mteb", "drawing scores")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    height = 1.2 + len(names) * (0.12 + _OF_A_TASK * len(rows))
    thickness = 0.8 / len(rows)
    # Ids in the file come from a hash with this salt; without it they are random. A dollar is no formula, and a
    # character that the font lacks is drawn as a box.
    settings = {"svg.hashsalt": "echo-embeddings", "svg.fonttype": "path", "text.parse_math": False}
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        legend: list[tuple[Any, str]] = []
        for place, (label, values) in enumerate(rows.items()):
            at = [group + (place - (len(rows) - 1) / 2) * thickness for group in range(len(names))]
            drawn = axes.barh(at, [value or 0.0 for value in values], thickness, color=_COLOURS[place % 7])
            legend.append((drawn, _drawable(label, _LONGEST_LABEL)))
            axes.bar_label(drawn, ["-" if value is None else f"{value:.1f}" for value in values], padding=2, fontsize=7)
        axes.set_yticks(range(len(names)), [_drawable(name, _LONGEST_NAME) for name in names], fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel(axis)
        axes.margins(x=0.1, y=0.02)
        axes.spines[["top", "right"]].set_visible(False)
        handles, said = zip(*legend, strict=True)
        figure.legend(handles, said, loc="outside lower center", fontsize=8, frameon=False)
        with whole_file(path) as unfinished:
            figure.savefig(unfinished, format="svg", metadata={"Date": None})


def _drawable(text: str, most: int) -> str:
    """The text, of more than ``most`` characters the end, without what SVG cannot hold, such as control characters."""
    short = text if len(text) <= most else f"…{text[1 - most :]}"
    return "".join(one if one.isprintable() else "\ufffd" for one in short)
