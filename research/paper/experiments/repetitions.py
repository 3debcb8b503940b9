"""One, two, three or four copies of the text, and which of them is pooled. The paper stops at two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.evaluation.datasets import Pairs
from echo_embeddings.types import Vectors
from research.paper.figures import lines
from research.paper.passes import copies, cosines, unit
from research.paper.report import Section, Table, spread
from research.paper.structures import Triplet, triplets
from research.paper.study import Study, digest

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
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    for model in study.models:
        values[model] = {"triplets": _on_triplets(study, model)}
        if study.data is not None and not study.quick:
            values[model]["STS-B"] = _on_pairs(study, model)
    names = [*map(str, range(1, COPIES + 1)), LAST_THREE]
    rows = [
        [model, what, *(spread(found[name]) for name in names)]
        for model, of_data in values.items()
        for what, found in of_data.items()
    ]
    table = Table(
        "Which copy is pooled: percent of triplets right (`early` and `late` together), and Spearman x100. Mean (least "
        "to greatest) of three samples. A text that stands once costs one pass, four times four.",
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


def _on_triplets(study: Study, model: str) -> dict[str, list[float]]:
    size = QUICK_SIZE if study.quick else SIZE
    samples = [[one for kind in ("early", "late") for one in triplets(kind, sample, size)] for sample in range(SAMPLES)]
    return _joined(
        study.once(
            NAME,
            _key(study, model, [vars(one) for one in rows]),
            lambda rows=rows: on_triplets(study.encoder(model, CONFIG), rows),
        )
        for rows in samples
    )


def _on_pairs(study: Study, model: str) -> dict[str, list[float]]:
    samples = [study.pairs("stsb_en", sample, PAIRS) for sample in range(SAMPLES)]
    return _joined(
        study.once(NAME, _key(study, model, pairs), lambda pairs=pairs: on_pairs(study.encoder(model, CONFIG), pairs))
        for pairs in samples
    )


def _key(study: Study, model: str, data: Any) -> dict[str, str]:
    return {"model": study.fingerprint(model), "config": CONFIG.fingerprint()[:12], "data": digest(data)}


def _joined(samples: Any) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in sample.items():
            found.setdefault(name, []).append(value)
    return found


def on_triplets(encoder: EchoEncoder, rows: Sequence[Triplet]) -> dict[str, float]:
    """The percentage of triplets that each copy gets right."""
    texts = list(dict.fromkeys(text for one in rows for text in (one.query, one.positive, one.negative)))
    found = {}
    for name, vectors in _by_copy(encoder, texts).items():
        row = dict(zip(texts, vectors, strict=True))
        query, positive, negative = (
            np.stack([row[getattr(one, part)] for one in rows]) for part in ("query", "positive", "negative")
        )
        near = np.array(cosines(query, positive)) - np.array(cosines(query, negative))
        found[name] = round(100 * float(np.mean(near > 0)), 4)
    return found


def on_pairs(encoder: EchoEncoder, pairs: Pairs) -> dict[str, float]:
    """Spearman x100 for each copy."""
    none = np.zeros((0, 1), np.float32)
    return {name: round(pairs.score(one, none), 4) for name, one in _by_copy(encoder, pairs.texts[0]).items()}


def _by_copy(encoder: EchoEncoder, texts: Sequence[str]) -> dict[str, Vectors]:
    found = copies(encoder, texts)
    joined = unit(np.mean(np.stack(found[1:]), axis=0, dtype=np.float32))
    return {str(number): one for number, one in enumerate(found, start=1)} | {LAST_THREE: joined}


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
