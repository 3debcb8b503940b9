"""Draw plots of a result as SVG, from the JSON alone. matplotlib may be missing; then there are none."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

_BESIDE = {"textcoords": "offset points", "va": "center", "fontsize": 8}


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    """Draw throughput as bars and against length; without matplotlib, print a message and draw nothing."""
    try:
        import matplotlib as mpl
    except ImportError:
        print("no plots: matplotlib is not installed (pip install --group bench)", flush=True)
        return []
    mpl.use("svg")
    # Text is written as text, and the same numbers give the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "echo", "font.size": 9}):
        drawn = [_throughput(result, folder / "throughput.svg")]
        if result["lengths"]:
            drawn.append(_lengths(result, folder / "length.svg"))
    return drawn


def _color(name: str) -> str:
    family = name.split("-", maxsplit=1)[0]
    return {"ours": "#1f6fb4", "st": "#c9733b", "minilm": "#8a8a8a"}.get(family, "#7b3f3f")


def _throughput(result: dict[str, Any], path: Path) -> Path:
    from matplotlib import pyplot as plt

    mixes = result["mixes"]
    figure, axes = plt.subplots(1, len(mixes), figsize=(4 * len(mixes) + 3, 4.5), sharey=True, squeeze=False)
    names = list(dict.fromkeys(entry["contender"] for mix in mixes for entry in mix["entries"]))[::-1]
    labels = {entry["contender"]: entry["label"] for mix in mixes for entry in mix["entries"]}
    for axis, mix in zip(axes[0], mixes, strict=True):
        rates = {e["contender"]: e["tokens"] / median(e["seconds"]) for e in mix["entries"]}
        # The small encoder would make all other bars look alike, so its bar ends at the edge; its number is right.
        others = [rate for name, rate in rates.items() if "minilm" not in name] or list(rates.values())
        edge = 1.3 * max(others, default=1.0)  # empty if all have failed
        bars = axis.barh(range(len(names)), [rates.get(name, 0) for name in names], color=[*map(_color, names)])
        for bar, rate in zip(bars, (rates.get(name) for name in names), strict=True):
            shown = "n/a" if rate is None else f"{rate:,.0f}{' →' if rate > edge else ''}"
            axis.annotate(shown, (min(rate or 0, 0.8 * edge), bar.get_y() + 0.4), (3, 0), **_BESIDE)
        axis.set(title=mix["name"], xlabel="content tokens/s", xlim=(0, edge))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_yticks(range(len(names)), [labels[name] for name in names])
    return _saved(figure, path, result)


def _lengths(result: dict[str, Any], path: Path) -> Path:
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7.5, 4.5))
    points = result["lengths"]
    styles = ("-", "--", "-.", ":")
    drawn: dict[str, int] = {}
    for name in dict.fromkeys(point["contender"] for point in points):
        own = [point for point in points if point["contender"] == name]
        color = _color(name)
        style = styles[drawn.get(color, 0) % len(styles)]
        drawn[color] = drawn.get(color, 0) + 1
        x, y = ([point[key] for point in own] for key in ("length", "tokens_per_second"))
        axis.plot(x, y, style, marker=".", color=color, label=own[0]["label"])
    axis.set_xscale("log", base=2)
    axis.set(xlabel="content tokens of a text", ylabel="content tokens/s", yscale="log")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    return _saved(figure, path, result)


def _saved(figure: Any, path: Path, result: dict[str, Any]) -> Path:
    about = result["machine"]
    figure.suptitle(f"{result['date'][:10]}, {about['cpu']}, {about['cores']} cores", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    return path
