"""A page that shows what ``tune`` tried: how good each exit layer is with each transform, and neighbours of texts."""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import groupby

from .candidates import TRANSFORMS, Candidate
from .neighbours import Neighbours
from .tune import Gain, Tried, Tuned

__all__ = ["page", "words_of", "words_of_gain"]

_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.5 system-ui;max-width:60em;margin:2em auto;padding:0 1em}}table{{border-collapse:collapse}}
td,th{{padding:.2em .6em;text-align:right;border:1px solid #ddd}}th:first-child{{text-align:left}}
.texts td{{text-align:left;vertical-align:top;width:50%}}.texts small{{color:#777}}</style>
<h1>{title}</h1>
"""
_SHADES = "Darker is better: the mean of the ranks of "
_NUMBERS = {
    "found": "how often the halves of a text find each other",
    "of whole": "how well they find their text",
}


def page(tuned: Tuned, model: str) -> str:
    """An HTML page without outside resources.

    Args:
        tuned: what was found.
        model: the model's name, for the title.
    """
    best = tuned.best
    parts = [
        _HEAD.format(title=html.escape(f"tune: {model}")),
        f"<p>Chosen: {html.escape(words_of(best))}. {len(tuned.tried)} configurations were tried.</p>",
    ]
    if tuned.gain is not None:
        parts.append(f"<p>The labels: {html.escape(words_of_gain(tuned.gain))}.</p>")
    parts += _neighbours(tuned.neighbours)
    numbers = [_NUMBERS.get(name, f"{name} on the half of the labels that decides") for name in tuned.names]
    parts.append(f"<h2>What was tried</h2>\n<p>{_SHADES}{html.escape(' and '.join(numbers))}.</p>")
    plain = [one for one in tuned.tried if not one.words]
    plain.sort(key=lambda one: (one.candidate.of.name, one.candidate.start, one.candidate.exit))
    for (name, start), some in groupby(plain, key=lambda one: (one.candidate.of.name, one.candidate.start)):
        parts.append(_heat_map(f"{name}, the copy is made at layer {start}" if start else name, list(some)))
    return "\n".join(parts) + "\n"


def words_of(one: Tried) -> str:
    """A configuration in words."""
    return ", ".join([*_words_of(one.candidate), f"words of length {one.words:g}" if one.words else "no words"])


def words_of_gain(gain: Gain) -> str:
    """What the labels that were held out say, in words."""
    before = "" if gain.before is None else f"{gain.before:.1f} with the rule for any model, "
    return f"{gain.metric} x100 on what was held out ({gain.size}): {before}{gain.after:.1f} with what was chosen"


def _neighbours(found: Sequence[Neighbours]) -> list[str]:
    if not found:
        return []
    rows = [
        f'<tr><td colspan="2"><b>{html.escape(one.text)}</b></td></tr>\n'
        f"<tr><td>{_near(one.before)}</td><td>{_near(one.after)}</td></tr>"
        for one in found
    ]
    about = "Texts whose neighbours changed most, and the nearest of the others; cosines of the two do not compare."
    head = "<tr><th>the rule for any model</th><th>what was chosen</th></tr>"
    return [
        f"<h2>Nearest texts, before and after</h2>\n<p>{about}</p>",
        f'<table class="texts">{head}',
        *rows,
        "</table>",
    ]


def _near(texts: Sequence[tuple[str, float]]) -> str:
    return "<br>".join(f"<small>{cosine:.2f}</small> {html.escape(text)}" for text, cosine in texts)


def _words_of(candidate: Candidate) -> list[str]:
    norm = " with the final norm" if candidate.final_norm else ""
    start = f" from layer {candidate.start}" if candidate.start else ""
    return [
        f"{candidate.of.name}{start}",
        f"pooled ({candidate.of.pooling}) after layer {candidate.exit}{norm}",
        f"transform {candidate.transform}",
        f"cost {candidate.cost:.2f}",
    ]


def _heat_map(title: str, tried: Sequence[Tried]) -> str:
    exits = list(dict.fromkeys((one.candidate.exit, one.candidate.final_norm) for one in tried))
    score = {(one.candidate.exit, one.candidate.final_norm, one.candidate.transform): one.score for one in tried}
    head = "".join(f"<th>{exit_}{' + norm' if norm else ''}</th>" for exit_, norm in exits)
    rows = []
    for name in TRANSFORMS:
        cells = "".join(_cell(score.get((*exit_, name))) for exit_ in exits)
        rows.append(f"<tr><th>{name}</th>{cells}</tr>")
    return f"<h3>{html.escape(title)}</h3>\n<table><tr><th>exit layer</th>{head}</tr>\n" + "\n".join(rows) + "</table>"


def _cell(score: float | None) -> str:
    if score is None:
        return "<td></td>"
    return f'<td style="background:rgba(30,110,200,{score * score:.2f})">{100 * score:.0f}</td>'
