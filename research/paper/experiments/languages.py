"""Other languages: STS-B in eleven, questions and passages (XQuAD), translations (Tatoeba)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from echo_embeddings.evaluation.datasets import Retrieval
from echo_embeddings.types import Role, Vectors
from research.paper.figures import bars
from research.paper.methods.masks import Masked
from research.paper.methods.method import Subject
from research.paper.passes import unit
from research.paper.report import Section, Table, spread
from research.paper.scoring import CONFIGS, joined, ndcg, spearman
from research.paper.study import Study, digest

NAME, NEEDS_DATA = "languages", True
STS, SAMPLES, PAIRS = ("en", "de", "es", "fr", "it", "ja", "nl", "pl", "pt", "ru", "zh"), 3, 16
XQUAD, QUERIES, DOCUMENTS = ("de", "ru", "zh"), 20, 20
TATOEBA, SENTENCES = ("deu", "fra", "spa", "rus", "jpn", "cmn"), 30
BIDIRECTIONAL = Masked("bidirectional", "arXiv 2404.05961, without its training", "both ways")
METHODS = (*CONFIGS, BIDIRECTIONAL.name)
TASKS = {"STS-B": "Spearman x100", "XQuAD": "nDCG@10 x100", "Tatoeba": "accuracy, %"}


def run(study: Study) -> Section:
    """Measure all models and say what was found."""
    values = {
        model: {
            "STS-B": joined(study.samples(SAMPLES, lambda sample, model=model: _sts(study, model, sample))),
            "XQuAD": {code: _xquad(study, model, code) for code in XQUAD},
            "Tatoeba": {code: _tatoeba(study, model, code) for code in TATOEBA},
        }
        for model in study.models
    }
    tables = [
        Table(
            f"{task}, {metric}, by language"
            + (": mean (least to greatest) of small samples." if task == "STS-B" else "."),
            ["model", "method", *next(iter(values.values()))[task]],
            [
                [model, method, *(spread(found[method]) for found in of_tasks[task].values())]
                for model, of_tasks in values.items()
                for method in METHODS
            ],
        )
        for task, metric in TASKS.items()
    ]
    figures: dict[str, tuple[Any, str]] = {
        f"{number}": (
            bars(_means(of_tasks), f"{model}: score"),
            f"{model}: scores over the languages other than English",
        )
        for number, (model, of_tasks) in enumerate(values.items())
    }
    return Section(NAME, "Other languages", _findings(values), tables, figures)


def embedded(study: Study, model: str, method: str, texts: Sequence[str], role: Role = "document") -> Vectors:
    """Unit vectors of texts by one of :data:`METHODS`."""
    if method == BIDIRECTIONAL.name:
        return unit(BIDIRECTIONAL.embed(Subject(*study.loaded(model)), texts, role).vectors)
    encoder = study.encoder(model, CONFIGS[method])
    return encoder.encode_queries(texts) if role == "query" else encoder.encode_documents(texts)


def _once(study: Study, model: str, data: Any, compute: Any) -> dict[str, float]:
    """The score of every method on a data set."""
    found = {}
    for method in METHODS:
        config = CONFIGS[method].fingerprint()[:12] if method in CONFIGS else BIDIRECTIONAL.settings
        place = {"model": study.fingerprint(model), "config": config, "data": digest(data)}
        found[method] = float(study.once(NAME, place, lambda method=method: compute(method)))
    return found


def _sts(study: Study, model: str, sample: int) -> dict[str, dict[str, float]]:
    """The score by language and method, on one sample of each language."""
    found = {}
    for code in STS:
        pairs = study.pairs(f"stsb_{code}", sample, PAIRS)
        found[code] = _once(
            study,
            model,
            pairs,
            lambda method, pairs=pairs: spearman(pairs, embedded(study, model, method, pairs.texts[0])),
        )
    return found


def _xquad(study: Study, model: str, code: str) -> dict[str, list[float]]:
    data = study.retrieval(f"xquad_{code}", 0, QUERIES, DOCUMENTS)
    return joined([_once(study, model, data, lambda method: _searched(study, model, method, data))])


def _searched(study: Study, model: str, method: str, data: Retrieval) -> float:
    documents, queries = data.texts
    return ndcg(data, embedded(study, model, method, documents), embedded(study, model, method, queries, "query"))


def _tatoeba(study: Study, model: str, code: str) -> dict[str, list[float]]:
    rows = study.translations(f"tatoeba_{code}-eng", SENTENCES)
    return joined([_once(study, model, rows, lambda method: _translated(study, model, method, rows))])


def _translated(study: Study, model: str, method: str, rows: Sequence[tuple[str, str]]) -> float:
    a, b = (embedded(study, model, method, [row[side] for row in rows]) for side in (0, 1))
    return accuracy(a, b)


def accuracy(a: Vectors, b: Vectors) -> float:
    """In percent: how often a row of ``a`` is nearest to the same row of ``b``."""
    return round(100 * float(np.mean((a @ b.T).argmax(axis=1) == np.arange(len(a)))), 4)


def _means(of_tasks: Mapping[str, Mapping[str, Mapping[str, list[float]]]]) -> dict[str, dict[str, list[float]]]:
    return {
        task: {
            method: [float(np.mean([np.mean(found[method]) for code, found in of_codes.items() if code != "en"]))]
            for method in METHODS
        }
        for task, of_codes in of_tasks.items()
    }


def _findings(values: Mapping[str, Any]) -> list[str]:
    against, for_it = [], []
    for model, of_tasks in values.items():
        for task, means in _means(of_tasks).items():
            mean = {method: row[0] for method, row in means.items()}
            holds = mean["echo"] > max(mean["classical"], mean[BIDIRECTIONAL.name])
            (for_it if holds else against).append(
                f"**{model}**, {task} in other languages than English: "
                + ", ".join(f"{method} {value:.1f}" for method, value in mean.items())
                + (". Echo is ahead of both." if holds else ". Echo is not ahead of both others.")
            )
    return [*against, *for_it]
