"""The same budget of tokens for every method: echo reads half as much text, twice (paper, figures 4 and 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from echo_embeddings import EchoConfig
from echo_embeddings.evaluation.datasets import Retrieval
from research.paper.figures import lines
from research.paper.report import Section, Table, counted, spread
from research.paper.scoring import CONFIGS, joined, key, ndcg_of
from research.paper.study import Study

NAME, NEEDS_DATA = "budgets", True
BUDGETS = (16, 32, 64, 128, 256, 512)
DATA, SAMPLES, QUERIES, DOCUMENTS = "scitldr", 3, 15, 30


def run(study: Study) -> Section:
    """Measure all models and say what was found."""
    samples = study.samples(SAMPLES, lambda sample: _measured(study, sample))
    values = joined(samples)
    rows = [
        [model, name, *(spread(found[budget]) for budget in BUDGETS)]
        for model, of_configs in values.items()
        for name, found in of_configs.items()
    ]
    table = Table(
        f"nDCG@10 x100 on {DATA}, samples of {QUERIES} queries and {DOCUMENTS} documents, by the tokens of text that "
        f"the model processes: mean (least to greatest) of {counted(samples)}. Echo reads half of them twice; late "
        "echo reads all of them, because it costs about as much as reading once.",
        ["model", "method", *map(str, BUDGETS)],
        rows,
    )
    curves = {
        model: {
            name: (list(BUDGETS), [float(np.mean(found[budget])) for budget in BUDGETS])
            for name, found in of_configs.items()
        }
        for model, of_configs in values.items()
    }
    figures: dict[str, tuple[Any, str]] = {
        "curves": (lines(curves, "tokens of text processed", "nDCG@10 x100", log=True), "Scores by budget of tokens")
    }
    return Section(NAME, "What a budget of tokens buys", _findings(values), [table], figures)


def matched(name: str, budget: int) -> EchoConfig:
    """A method's config for a budget: echo keeps half as many tokens of each text."""
    return CONFIGS[name].replace(max_length=budget // 2 if name == "echo" else budget)


def _measured(study: Study, sample: int) -> dict[str, dict[str, dict[int, float]]]:
    """The score by model, method and budget, on one sample."""
    data = study.retrieval(DATA, sample, QUERIES, DOCUMENTS)
    return {
        model: {name: {budget: _score(study, model, name, budget, data) for budget in BUDGETS} for name in CONFIGS}
        for model in study.models
    }


def _score(study: Study, model: str, name: str, budget: int, data: Retrieval) -> float:
    config = matched(name, budget)
    return float(study.once(NAME, key(study, model, config, data), lambda: ndcg_of(study.encoder(model, config), data)))


def _findings(values: Mapping[str, Mapping[str, Mapping[int, list[float]]]]) -> list[str]:
    against, for_it = [], []
    for model, found in values.items():
        gaps = {
            budget: float(np.mean(found["echo"][budget]) - np.mean(found["classical"][budget])) for budget in BUDGETS
        }
        from_ = next((budget for budget in BUDGETS if all(gaps[b] > 0 for b in BUDGETS if b >= budget)), None)
        said = ", ".join(f"{gap:+.1f} at {budget}" for budget, gap in gaps.items())
        holds = from_ is not None
        (for_it if holds else against).append(
            f"**{model}**: echo on half of the text minus classical on all of it: {said}. "
            + (f"From {from_} tokens on echo is ahead." if holds else "Echo is not ahead at the large budgets.")
            + " The paper's Mistral-7B is ahead of causal classical embeddings at every budget."
        )
        late = {b: float(np.mean(found["late echo"][b]) - np.mean(found["classical"][b])) for b in BUDGETS}
        for_it.append(
            f"**{model}**: late echo on all of the text minus classical: "
            + ", ".join(f"{gap:+.1f} at {budget}" for budget, gap in late.items())
            + "."
        )
    return [*against, *for_it]
