"""Pictures of the report: one function a kind of picture. All are drawn without a screen and without a date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

__all__ = ["bars", "boxes", "heat_maps", "histograms", "lines"]

COLORS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#9d755d", "#72b7b2", "#e45756", "#bab0ac")


def bars(values: Mapping[str, Mapping[str, Sequence[float]]], label: str, *, floor: float | None = None) -> Figure:
    """Groups of bars: the mean of each sequence, with a line from its least to its greatest value.

    Args:
        values: group, then the name in the legend, then the values of the samples.
        label: what the axis shows.
        floor: a level to mark, such as that of chance.
    """
    figure = Figure(figsize=(1.2 + 1.9 * len(values), 3.6))
    axes = figure.subplots()
    names = list(dict.fromkeys(name for group in values.values() for name in group))
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        rows = [group.get(name, ()) for group in values.values()]
        means = [float(np.mean(row)) if len(row) else 0.0 for row in rows]
        ends = [
            [mean - min(row, default=0.0) for mean, row in zip(means, rows, strict=True)],
            [max(row, default=0.0) - mean for mean, row in zip(means, rows, strict=True)],
        ]
        places = np.arange(len(rows)) + (i - (len(names) - 1) / 2) * width
        axes.bar(places, means, width * 0.92, label=name, color=COLORS[i % len(COLORS)], yerr=ends, capsize=2)
    if floor is not None:
        axes.axhline(floor, color="#666666", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(values)), list(values))
    axes.set_ylabel(label)
    axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def boxes(values: Mapping[str, Mapping[str, Sequence[float]]], label: str) -> Figure:
    """A panel for each group with a box for each name, and a dot for each value."""
    figure = Figure(figsize=(0.6 + 1.1 * sum(map(len, values.values())), 3.4))
    panels = figure.subplots(1, len(values), sharey=True, squeeze=False)[0]
    for axes, (title, group) in zip(panels, values.items(), strict=True):
        axes.boxplot(list(group.values()), widths=0.6, showfliers=False, medianprops={"color": "#333333"})
        for i, row in enumerate(group.values()):
            spread = np.linspace(-0.16, 0.16, len(row)) if len(row) > 1 else np.zeros(len(row))
            axes.plot(i + 1 + spread, row, ".", color=COLORS[i % len(COLORS)])
        axes.set_xticks(range(1, len(group) + 1), list(group))
        axes.set_title(title, fontsize="medium")
    panels[0].set_ylabel(label)
    return figure


def histograms(values: Mapping[str, Mapping[str, Sequence[float]]], label: str) -> Figure:
    """A panel for each group, in it a histogram for each name, one over the other."""
    figure = Figure(figsize=(0.6 + 2.7 * len(values), 2.8))
    panels = figure.subplots(1, len(values), squeeze=False)[0]
    for axes, (title, group) in zip(panels, values.items(), strict=True):
        everything = [value for row in group.values() for value in row]
        middle, reach = (min(everything) + max(everything)) / 2, max(np.ptp(everything) / 2, 0.005)
        bins = [float(edge) for edge in np.linspace(middle - reach, middle + reach, 25)]
        for i, (name, row) in enumerate(group.items()):
            axes.hist(row, bins=bins, alpha=0.55, label=name, color=COLORS[i % len(COLORS)])
        axes.set_title(title, fontsize="small")
        axes.set_xlabel(label, fontsize="small")
        axes.tick_params(labelsize="x-small")
    panels[-1].legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def lines(
    values: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]],
    across: str,
    label: str,
    *,
    log: bool = False,
) -> Figure:
    """A panel for each group, in it a line for each name: its places and its values.

    Args:
        values: group, then name, then where and what.
        across: what the horizontal axis shows.
        label: what the vertical axis shows.
        log: whether the horizontal axis doubles from mark to mark.
    """
    figure = Figure(figsize=(1.4 + 3.4 * len(values), 3.3))
    panels = figure.subplots(1, len(values), squeeze=False)[0]
    for axes, (title, group) in zip(panels, values.items(), strict=True):
        for i, (name, (where, what)) in enumerate(group.items()):
            axes.plot(where, what, ".-", label=name, color=COLORS[i % len(COLORS)])
        if log:
            marks = sorted({place for where, _ in group.values() for place in where})
            axes.set_xscale("log", base=2)
            axes.set_xticks(marks, [f"{mark:g}" for mark in marks])
            axes.minorticks_off()
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel(across)
    panels[0].set_ylabel(label)
    panels[-1].legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def heat_maps(
    values: Mapping[str, Sequence[Sequence[float]]],
    rows: Mapping[str, Sequence[Any]],
    columns: Mapping[str, Sequence[Any]],
    axes_labels: tuple[str, str],
) -> Figure:
    """A panel for each group: a value for each row and column, NaN left white.

    Args:
        values: the values by group.
        rows: the names of the rows by group.
        columns: the names of the columns by group.
        axes_labels: what rows and columns are.
    """
    figure = Figure(figsize=(0.8 + 3.9 * len(values), 3.4))
    panels = figure.subplots(1, len(values), squeeze=False)[0]
    for axes, (title, group) in zip(panels, values.items(), strict=True):
        picture = axes.imshow(np.array(group, dtype=float), aspect="auto", cmap="viridis", origin="lower")
        figure.colorbar(picture, ax=axes)
        step = max(1, len(columns[title]) // 10)
        axes.set_xticks(range(0, len(columns[title]), step), [str(one) for one in columns[title][::step]])
        step = max(1, len(rows[title]) // 10)
        axes.set_yticks(range(0, len(rows[title]), step), [str(one) for one in rows[title][::step]])
        axes.tick_params(labelsize="x-small")
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel(axes_labels[1], fontsize="small")
    panels[0].set_ylabel(axes_labels[0], fontsize="small")
    return figure
