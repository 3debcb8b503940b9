"""One, two, three or four copies of the text, and which of them is pooled. The paper stops at two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.evaluation.datasets import Pairs
from echo_embeddings.types import Vectors
from research.paper.figures import lines
from research.paper.passes import copies, unit
from research.paper.report import Section, Table, counted, spread
from research.paper.scoring import joined, key, right, spearman, texts_of
from research.paper.structures import Triplet, triplets
from research.paper.study import Study

NAME, NEEDS_DATA = "repetitions", False
COPIES, SAMPLES = 4, 3
SIZE, QUICK_SIZE, PAIRS = 16, 6, 50
CONFIG = EchoConfig(
    template="Rewrite the following sentence: {text}" + "\nThe rewritten sentence: {text}" * (COPIES - 1)
)
#: The mean of what is pooled from copies two to four.
LAST_THREE = "2 to 4"


def run(study: Study) -> Section:
    """Measure all models and say what was found."""
    samples = study.samples(SAMPLES, lambda sample: {model: _sample(study, model, sample) for model in study.models})
    values = joined(samples)
    names = [*map(str, range(1, COPIES + 1)), LAST_THREE]
    rows = [
        [model, what, *(spread(found[name]) for name in names)]
        for model, of_data in values.items()
        for what, found in of_data.items()
    ]
    table = Table(
        "Which copy is pooled: percent of triplets right (`early` and `late` together), and Spearman x100. Mean (least "
        f"to greatest) of {counted(samples)}. A text that stands once costs one pass, four times four.",
        ["model", "data", *(f"copy {name}" for name in names)],
        rows,
    )
    places = list(range(1, COPIES + 1))
    curves = {
        model: {
            what: (places, [float(np.mean(found[str(copy)])) for copy in places]) for what, found in of_data.items()
        }
        for model, of_data in values.items()
    }
    figures: dict[str, tuple[Any, str]] = {
        "copies": (lines(curves, "copies of the text", "score"), "Scores by the number of copies")
    }
    return Section(NAME, "How often the text is repeated", _findings(values), [table], figures)


def _sample(study: Study, model: str, sample: int) -> dict[str, dict[str, float]]:
    """The score of each copy, by data, on one sample."""
    size = QUICK_SIZE if study.quick else SIZE
    rows = [one for kind in ("early", "late") for one in triplets(kind, sample, size)]
    place = key(study, model, CONFIG, [vars(one) for one in rows])
    found = {"triplets": study.once(NAME, place, lambda: on_triplets(study.encoder(model, CONFIG), rows))}
    if study.data is not None and not study.quick:
        pairs = study.pairs("stsb_en", sample, PAIRS)
        place = key(study, model, CONFIG, pairs)
        found["STS-B"] = study.once(NAME, place, lambda: on_pairs(study.encoder(model, CONFIG), pairs))
    return found


def on_triplets(encoder: EchoEncoder, rows: Sequence[Triplet]) -> dict[str, float]:
    """The percentage of triplets that each copy gets right."""
    texts = texts_of(rows)
    return {
        name: right(rows, dict(zip(texts, vectors, strict=True))) for name, vectors in _by_copy(encoder, texts).items()
    }


def on_pairs(encoder: EchoEncoder, pairs: Pairs) -> dict[str, float]:
    """Spearman x100 for each copy."""
    return {name: spearman(pairs, one) for name, one in _by_copy(encoder, pairs.texts[0]).items()}


def _by_copy(encoder: EchoEncoder, texts: Sequence[str]) -> dict[str, Vectors]:
    found = copies(encoder, texts)
    last_three = unit(np.mean(np.stack(found[1:]), axis=0, dtype=np.float32))
    return {str(number): one for number, one in enumerate(found, start=1)} | {LAST_THREE: last_three}


def _findings(values: Mapping[str, Mapping[str, Mapping[str, list[float]]]]) -> list[str]:
    said = (
        "No token of a causal model sees a later one, so the second copy of four is the same as the last of two: the "
        "number of copies and the copy that is pooled are one question, and one pass over four copies answers it."
    )
    against, for_it = [], []
    for model, of_data in values.items():
        for what, found in of_data.items():
            means = [float(np.mean(found[str(copy)])) for copy in range(1, COPIES + 1)]
            gain, more = means[1] - means[0], max(means[2:]) - means[1]
            text = (
                f"**{model}**, {what}: from the first copy to the second it is {gain:+.1f} points; a third or fourth "
                f"brings {more:+.1f} over the second at its best. The mean over copies two to four has "
                f"{np.mean(found[LAST_THREE]):.1f}, the second alone {means[1]:.1f}."
            )
            (for_it if gain > 0 else against).append(text if gain > 0 else f"{text} So repeating does not help here.")
    return [*against, said, *for_it]
