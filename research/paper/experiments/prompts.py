"""How much a score depends on the words of the prompt (paper, appendix D and figures 7 to 9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from echo_embeddings import EchoConfig
from echo_embeddings.text.template import Template
from research.paper.figures import boxes
from research.paper.prompts import INSTRUCTIONS, METHODS, draws
from research.paper.report import Section, Table, spread
from research.paper.scoring import joined, key, right, spearman, texts_of
from research.paper.structures import Triplet, triplets
from research.paper.study import Study

NAME, NEEDS_DATA = "prompts", False
DRAWS, SIZE, QUICK_SIZE = 12, 16, 6
PAIRS, SAMPLES = 60, 3


def run(study: Study) -> Section:
    """Measure all models and say what was found."""
    size = QUICK_SIZE if study.quick else SIZE
    rows = [one for kind in ("early", "late") for one in triplets(kind, 0, size)]
    values = {model: _drawn(study, model, rows) for model in study.models}
    with_pairs: dict[str, dict[str, list[float]]] = {}
    if study.data is not None and not study.quick:
        with_pairs = {model: _drawn_on_pairs(study, model) for model in study.models}
    words = {model: _instructions(study, model, size) for model in study.models}
    figures: dict[str, tuple[Any, str]] = {
        "triplets": (boxes(values, "triplets, % right"), "How the share of right triplets varies with the prompt")
    }
    if with_pairs:
        figures["sts"] = (boxes(with_pairs, "STS-B, Spearman x100"), "How the score on STS-B varies with the prompt")
    tables = [_table(values, "Triplets (`early` and `late` together), percent right"), _table_of_words(words)]
    if with_pairs:
        tables.insert(1, _table(with_pairs, f"STS-B, Spearman x100 on {PAIRS} pairs"))
    return Section(NAME, "How much the prompt matters", _findings(values, with_pairs, words), tables, figures)


def _drawn(study: Study, model: str, rows: list[Triplet]) -> dict[str, list[float]]:
    return {
        method: [_right(study, model, _config(method, template), rows) for template in draws(method, DRAWS)]
        for method in METHODS
    }


def _drawn_on_pairs(study: Study, model: str) -> dict[str, list[float]]:
    pairs = study.pairs("stsb_en", 0, PAIRS)
    found: dict[str, list[float]] = {}
    for method in METHODS:
        for template in draws(method, DRAWS):
            config = _config(method, template)
            value = study.once(
                NAME,
                key(study, model, config, pairs),
                lambda config=config: spearman(pairs, study.encoder(model, config).encode_documents(pairs.texts[0])),
            )
            found.setdefault(method, []).append(value)
    return found


def _instructions(study: Study, model: str, size: int) -> dict[str, list[float]]:
    def measured(sample: int) -> dict[str, float]:
        rows = [one for kind in ("early", "late") for one in triplets(kind, sample, size)]
        return {
            name: _right(study, model, EchoConfig(template=template), rows) for name, template in INSTRUCTIONS.items()
        }

    found: dict[str, list[float]] = joined(study.samples(SAMPLES, measured))
    return found


def _config(method: str, template: Template) -> EchoConfig:
    return EchoConfig(template=template, pooling="last" if method == "PromptEOL" else "mean")


def _right(study: Study, model: str, config: EchoConfig, rows: list[Triplet]) -> float:
    texts = texts_of(rows)

    def compute() -> float:
        return right(rows, dict(zip(texts, study.encoder(model, config).encode_documents(texts), strict=True)))

    return float(study.once(NAME, key(study, model, config, [vars(one) for one in rows]), compute))


def _table(values: Mapping[str, Mapping[str, list[float]]], what: str) -> Table:
    rows = [
        [model, method, f"{np.median(row):.1f}", f"{min(row):.1f}", f"{max(row):.1f}", f"{np.std(row):.1f}"]
        for model, found in values.items()
        for method, row in found.items()
    ]
    return Table(
        f"{what}, over {DRAWS} prompts drawn for each method.",
        ["model", "method", "median", "worst", "best", "standard deviation"],
        rows,
    )


def _table_of_words(words: Mapping[str, Mapping[str, list[float]]]) -> Table:
    rows = [[model, *(spread(found[name]) for name in INSTRUCTIONS)] for model, found in words.items()]
    return Table(
        "What the echo prompt calls the second copy: percent of triplets right, mean (least to greatest) of samples.",
        ["model", *INSTRUCTIONS],
        rows,
    )


def _findings(
    values: Mapping[str, Mapping[str, list[float]]],
    with_pairs: Mapping[str, Mapping[str, list[float]]],
    words: Mapping[str, Mapping[str, list[float]]],
) -> list[str]:
    against, for_it = [], []
    for what, of_models in (("the triplets", values), ("STS-B", with_pairs)):
        for model, found in of_models.items():
            apart = min(found["echo"]) > max(found["classical"])
            (for_it if apart else against).append(
                f"**{model}**, {what}: the paper says that every echo prompt beats every classical one. "
                + ("So it is: " if apart else "Not here: ")
                + f"the worst echo prompt has {min(found['echo']):.1f}, the best classical one "
                f"{max(found['classical']):.1f}."
            )
            spreads = {method: max(row) - min(row) for method, row in found.items()}
            holds = spreads["PromptEOL"] > max(spreads["echo"], spreads["classical"])
            (for_it if holds else against).append(
                f"**{model}**, {what}: from the worst prompt to the best it is {spreads['classical']:.1f} points for "
                f"classical, {spreads['echo']:.1f} for echo and {spreads['PromptEOL']:.1f} for PromptEOL. The paper "
                f"says that PromptEOL depends most on its prompt; " + ("it does." if holds else "it does not here.")
            )
    for model, found in words.items():
        means = {name: float(np.mean(row)) for name, row in found.items()}
        best, worst = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
        for_it.append(
            f"**{model}**: what the prompt asks for matters by {means[best] - means[worst]:.1f} points on the "
            f"triplets: {best} is best ({means[best]:.1f}) and {worst} worst ({means[worst]:.1f})."
        )
    return [*against, *for_it]
