"""Quality against the length of the documents, up to thousands of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from echo_embeddings.evaluation.datasets import Retrieval
from research.paper.figures import lines
from research.paper.report import Section, Table
from research.paper.scoring import CONFIGS, key, ndcg_of
from research.paper.study import Study

NAME, NEEDS_DATA = "lengths", True
#: Tokens that are kept of each document. Both copies of the longest fit SmolLM2's context of 8,192.
LENGTHS = (128, 512, 2048, 4000)
DATA, DOCUMENTS = "qmsum_val_long", 8


def run(study: Study) -> Section:
    """Measure all models and say what was found."""
    data = sample(study.retrieval_all(DATA))
    values = {
        model: {name: [_score(study, model, name, length, data) for length in LENGTHS] for name in CONFIGS}
        for model in study.models
    }
    table = Table(
        f"nDCG@10 x100 on {DATA} ({data.size}; transcripts of meetings), by the tokens that are kept of a document.",
        ["model", "method", *map(str, LENGTHS)],
        [[model, name, *scores] for model, found in values.items() for name, scores in found.items()],
    )
    curves = {
        model: {name: (list(LENGTHS), scores) for name, scores in found.items()} for model, found in values.items()
    }
    figures: dict[str, tuple[Any, str]] = {
        "curves": (lines(curves, "tokens of a document", "nDCG@10 x100", log=True), "Scores by length of documents")
    }
    return Section(NAME, "Long documents", _findings(values), [table], figures)


def sample(data: Retrieval) -> Retrieval:
    """The first documents, and the queries whose relevant documents are all among them."""
    kept = dict(list(data.documents.items())[:DOCUMENTS])
    asked = {
        one: relevance
        for one, relevance in data.judgements.items()
        if all(document in kept for document, gain in relevance.items() if gain > 0)
    }
    return Retrieval(kept, {one: data.queries[one] for one in asked}, asked)


def _score(study: Study, model: str, name: str, length: int, data: Retrieval) -> float:
    config = CONFIGS[name].replace(max_length=length)
    return float(study.once(NAME, key(study, model, config, data), lambda: ndcg_of(study.encoder(model, config), data)))


def _findings(values: Mapping[str, Mapping[str, list[float]]]) -> list[str]:
    against, for_it = [], []
    for model, found in values.items():
        for name in ("echo", "late echo"):
            gaps = [a - b for a, b in zip(found[name], found["classical"], strict=True)]
            said = ", ".join(f"{gap:+.1f} at {length}" for length, gap in zip(LENGTHS, gaps, strict=True))
            shrinks = gaps[-1] < gaps[0]
            (against if shrinks else for_it).append(
                f"**{model}**: {name} minus classical: {said} tokens. "
                + ("The lead shrinks" if shrinks else "The lead does not shrink")
                + " with length; others found that echo loses at 8,192 tokens (Mistral-7B, Llama-3.1-8B)."
            )
    return [*against, *for_it]
