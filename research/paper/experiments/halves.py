"""Real pairs that are alike in their first or in their second half: who over-rates them (paper, appendix E)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echo_embeddings import EchoEncoder
from echo_embeddings.evaluation.datasets import Pairs
from research.paper.figures import bars
from research.paper.report import Section, Table, counted, spread
from research.paper.scoring import CONFIGS, joined, key
from research.paper.study import Study, digest

NAME, NEEDS_DATA = "halves", True
DATA, SAMPLES, SIZE = "stsb_en", 3, 120
#: The share of pairs that count as alike in a half.
TOP = 0.1
HALVES = ("first half", "second half")


def run(study: Study) -> Section:
    """Measure all models and say what was found."""
    samples = study.samples(SAMPLES, lambda sample: _measured(study, sample))
    values = joined(samples)
    rows = [
        [model, name, *(spread(found[half]) for half in HALVES), f"{_lean(found):+.1f}"]
        for model, of_configs in values.items()
        for name, found in of_configs.items()
    ]
    table = Table(
        f"Rank error in percent of the number of pairs: how much higher a method ranks the {TOP:.0%} of pairs that are "
        f"most alike in one half than people do. Mean (least to greatest) of {counted(samples)} of "
        f"{SIZE} pairs of {DATA}.",
        ["model", "method", *(f"alike in the {half}" for half in HALVES), "difference"],
        rows,
    )
    figures: dict[str, tuple[Any, str]] = {
        f"{number}": (bars(_by_half(of_configs), f"{model}: rank error, %", floor=0), f"{model}: rank error by half")
        for number, (model, of_configs) in enumerate(values.items())
    }
    return Section(NAME, "Pairs that are alike in one half", _findings(values), [table], figures)


def halves(text: str) -> tuple[str, str]:
    """A text split in the middle by words; the first half is the shorter one."""
    words = text.split()
    middle = max(1, len(words) // 2)
    return " ".join(words[:middle]), " ".join(words[middle:])


def _alike(study: Study, pairs: Pairs) -> dict[str, list[int]]:
    place = {"judge": "default", "data": digest(pairs), "top": TOP}
    found: dict[str, list[int]] = study.once(NAME, place, lambda: alike(EchoEncoder(on_truncate="ignore"), pairs))
    return found


def alike(judge: EchoEncoder, pairs: Pairs) -> dict[str, list[int]]:
    """The rows whose first halves are most alike, and those whose second halves are."""
    found = {}
    for part, half in enumerate(HALVES):
        sides = [judge.encode_documents([halves(text)[part] for text in side]) for side in (pairs.first, pairs.second)]
        similar = np.einsum("nd,nd->n", *sides)
        most = np.argsort(-similar, kind="stable")[: max(1, round(TOP * len(similar)))]
        found[half] = sorted(most.tolist())
    return found


def rank_errors(similar: Sequence[float], judged: Sequence[float]) -> NDArray[np.float64]:
    """How many ranks each pair is too high, in percent of their number."""
    from scipy.stats import rankdata

    errors: NDArray[np.float64] = 100 * (rankdata(similar) - rankdata(judged)) / len(judged)
    return errors


def _measured(study: Study, sample: int) -> dict[str, dict[str, dict[str, float]]]:
    """The mean rank error by model, method and half, on one sample."""
    pairs = study.pairs(DATA, sample, SIZE)
    rows = _alike(study, pairs)
    return {model: {name: _errors(study, model, name, pairs, rows) for name in CONFIGS} for model in study.models}


def _errors(study: Study, model: str, name: str, pairs: Pairs, rows: Mapping[str, Sequence[int]]) -> dict[str, float]:
    place = key(study, model, CONFIGS[name], pairs)
    similar = study.once(NAME, place, lambda: similarities(study.encoder(model, CONFIGS[name]), pairs))
    errors = rank_errors(similar, pairs.scores)
    return {half: float(errors[rows[half]].mean()) for half in HALVES}


def similarities(encoder: EchoEncoder, pairs: Pairs) -> list[float]:
    """The cosine of each pair, with six decimals."""
    row = dict(zip(pairs.texts[0], encoder.encode_documents(pairs.texts[0]), strict=True))
    return [round(float(row[a] @ row[b]), 6) for a, b in zip(pairs.first, pairs.second, strict=True)]


def _by_half(of_configs: Mapping[str, Mapping[str, list[float]]]) -> dict[str, dict[str, list[float]]]:
    return {half: {name: found[half] for name, found in of_configs.items()} for half in HALVES}


def _lean(found: Mapping[str, list[float]]) -> float:
    return float(np.mean(found[HALVES[0]]) - np.mean(found[HALVES[1]]))


def _findings(values: Mapping[str, Mapping[str, Mapping[str, list[float]]]]) -> list[str]:
    against, for_it = [], []
    for model, found in values.items():
        leans = {name: _lean(found[name]) for name in found}
        holds = leans["classical"] > max(0.0, leans["echo"])
        (for_it if holds else against).append(
            f"**{model}**: the paper says that classical embeddings over-rate pairs that are alike in their first "
            f"half, and echo does not. "
            + ("So it is: " if holds else "Not here: ")
            + f"the rank error of such pairs minus that of pairs alike in their second half is "
            f"{leans['classical']:+.1f} percent for classical, {leans['echo']:+.1f} for echo, "
            f"{leans['late echo']:+.1f} for late echo."
        )
    for_it.append(
        "Which pairs are alike in a half was judged by this library's default model (`EchoEncoder()`), because the "
        "paper's judge, bge-base-en-v1.5, could not be had without a hub. It is an echo model itself, so it may share "
        "errors with what is judged here."
    )
    return [*against, *for_it]
