"""Find the number from unlabelled texts that ranks configurations as labels do (issue 25).

    python -m research.any_model.criteria DEV --states STATES [--states STATES] [--output criteria.json]

Reads what ``states.py`` kept. A configuration is a template, a start layer, an exit layer and a transform fitted on
the set's own texts. For each set and configuration: the score with labels (Spearman or nDCG@10), and each criterion,
which sees the documents alone. Printed for each model and kind: rank correlation of criterion and score over the
configurations, and the regret: points that the criterion's choice loses to the best choice with labels.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from echo_embeddings.evaluation.datasets import Dataset, Pairs
from echo_embeddings.vectors.transforms import Project, Standardize
from research.any_model.states import first_sentence, halves, needed, samples

Array = NDArray[Any]
TRANSFORMS: Mapping[str, Callable[[Array], Callable[[Array], Array]]] = {
    "none": lambda _: lambda x: x,
    "centre": lambda own: lambda x: x - own.mean(0),
    "standardize": Standardize.fit,
    "whiten 0.4": lambda own: Project.whiten(own, power=0.4),
    "whiten 0.8": lambda own: Project.whiten(own, power=0.8),
}

# In layers below, halves find each other by their words, and a criterion takes that for meaning: with exits from the
# first layer on, "halves" chose classical vectors of layer 5, seven points below the best (SmolLM2, 2026-11-28).
SHALLOWEST = 0.65
JUDGED = ("of_halves", "first", "second", "opening", "rest")


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute scores and criteria of all configurations, and print how they agree."""
    parser = argparse.ArgumentParser(prog="python -m research.any_model.criteria")
    parser.add_argument("data", type=Path)
    parser.add_argument("--states", type=Path, action="append", required=True, help="a folder of states.py; repeatable")
    parser.add_argument("--output", type=Path, help="write all rows to a JSON file")
    parser.add_argument("--max-cost", type=float, default=9.0, help="only configurations of at most so many passes")
    given = parser.parse_args(arguments)
    sets = samples(given.data)
    written = {}
    for folder in given.states:
        rows = [row for path in sorted(folder.glob("*.npz")) for row in rows_of(path, sets)]
        rows = [row for row in rows if row["cost"] <= given.max_cost]
        print(f"\n# {folder.name}: {len(rows)} configurations")
        agreement(rows, sets)
        written[folder.name] = rows
    if given.output:
        given.output.write_text(json.dumps(written))


def rows_of(path: Path, sets: Mapping[str, Dataset]) -> list[dict[str, Any]]:
    """All configurations of one pass of the model."""
    texts = sorted({text for dataset in sets.values() for text in needed(dataset)})
    row_of = {text: row for row, text in enumerate(texts)}
    with np.load(path) as kept:
        states, start, depth = kept["states"].astype(np.float32), int(kept["start"]), int(kept["depth"])
    template = path.stem
    copies = 2 if "twice" in template else 1
    places = {name: parts_of(dataset, row_of) for name, dataset in sets.items()}
    rows = []
    for e in range(states.shape[1]):
        exit_ = min(start + 1 + e, depth)
        if exit_ < SHALLOWEST * depth:
            continue
        cost = exit_ / depth if copies == 1 else (2 * exit_ - start) / depth
        for transform, make in TRANSFORMS.items():
            row: dict[str, Any] = {"template": template, "exit": exit_, "norm": e == states.shape[1] - 1}
            row |= {"depth": depth, "transform": transform, "cost": cost, "scores": {}, "criteria": {}}
            for name, dataset in sets.items():
                part = {key: states[rows, e] for key, rows in places[name].items()}
                mapped = make(part["whole"])
                row["scores"][name] = dataset.score(unit(mapped(part["whole"])), unit(mapped(part["queries"])))
                # A transform fitted on the texts that it is judged by sees their halves as noise around them.
                kind = type(dataset)
                others = [
                    states[places[one]["whole"], e] for one, of in sets.items() if one != name and type(of) is kind
                ]
                mapped = make(np.concatenate([part["whole"][::2], *others]))
                row["criteria"][name] = criteria({key: unit(mapped(part[key][1::2])) for key in JUDGED})
            rows.append(row)
    return rows


def parts_of(dataset: Dataset, row_of: Mapping[str, int]) -> dict[str, Array]:
    """Rows of the states: documents, queries, and the parts of documents that have them."""
    documents, queries = dataset.texts
    split = [halves(text) for text in documents if all(halves(text))]
    opened = [first_sentence(text) for text in documents if first_sentence(text)[0]]
    named = {
        "whole": documents,
        "queries": queries,
        "first": [a for a, _ in split],
        "second": [b for _, b in split],
        "of_halves": [text for text in documents if all(halves(text))],
        "opening": [a for a, _ in opened],
        "rest": [b for _, b in opened],
    }
    return {name: np.array([row_of[text] for text in texts], dtype=int) for name, texts in named.items()}


def criteria(found: Mapping[str, Array]) -> dict[str, float]:
    """Each criterion; more is better."""
    whole, first, second = found["of_halves"], found["first"], found["second"]
    similar = whole @ whole.T
    above = similar[np.triu_indices(len(whole), 1)]
    halves_ = first @ second.T
    values = {
        "halves, MRR": (mrr(halves_) + mrr(halves_.T)) / 2,
        "halves, contrast 0.05": (contrast(halves_, 0.05) + contrast(halves_.T, 0.05)) / 2,
        "halves, contrast z": (contrast_z(halves_) + contrast_z(halves_.T)) / 2,
        "halves, z": (z(halves_) + z(halves_.T)) / 2,
        "halves, quantile": (quantile(halves_) + quantile(halves_.T)) / 2,
        "half to whole, z": (z(first @ whole.T) + z(second @ whole.T)) / 2,
        "half to whole, MRR": (mrr(first @ whole.T) + mrr(second @ whole.T)) / 2,
        "uniformity": -float(np.log(np.exp(4 * (above - 1)).mean())),
        "alignment": float(np.einsum("nd,nd->n", first, second).mean()),
    }
    if len(found["opening"]) > 10:
        opened = found["opening"] @ found["rest"].T
        values |= {"opening, MRR": mrr(opened), "opening, z": z(opened), "opening, quantile": quantile(opened)}
    return values


def mrr(similar: Array) -> float:
    """Mean reciprocal rank of the diagonal within its row."""
    ranks = 1 + (similar > np.diag(similar)[:, None]).sum(1)
    return float((1 / ranks).mean())


def quantile(similar: Array) -> float:
    """How often the diagonal is above another entry of its row: the area under the ROC curve."""
    return float((similar < np.diag(similar)[:, None]).sum() / (len(similar) * (len(similar) - 1)))


def z(similar: Array) -> float:
    """How many standard deviations of its row the diagonal is above the row's mean."""
    return float(((np.diag(similar) - similar.mean(1)) / (similar.std(1) + 1e-9)).mean())


def contrast(similar: Array, temperature: float) -> float:
    """InfoNCE of the diagonal, negated."""
    logits = similar / temperature
    most = logits.max(1, keepdims=True)
    return float((np.diag(logits) - most[:, 0] - np.log(np.exp(logits - most).sum(1))).mean())


def contrast_z(similar: Array) -> float:
    """InfoNCE with a temperature of a third of the spread of similarities, which no scale of them changes."""
    return contrast(similar, float(similar.std()) / 3 + 1e-9)


def unit(vectors: Array) -> Array:
    """Vectors of unit length."""
    return np.asarray(vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-12))


def agreement(rows: Sequence[Mapping[str, Any]], sets: Mapping[str, Dataset]) -> None:
    """Print, for each criterion, how it agrees with the labels."""
    kinds = {
        "similarity": [name for name, dataset in sets.items() if isinstance(dataset, Pairs)],
        "retrieval": [name for name, dataset in sets.items() if not isinstance(dataset, Pairs)],
    }
    names = sorted({name for row in rows for found in row["criteria"].values() for name in found})
    truth = {
        kind: np.array([np.mean([row["scores"][one] for one in of]) for row in rows]) for kind, of in kinds.items()
    }
    truth["both"] = (truth["similarity"] + truth["retrieval"]) / 2
    best = {kind: float(values.max()) for kind, values in truth.items()}
    print("best with labels: " + ", ".join(f"{kind} {value:.1f}" for kind, value in best.items()))
    for name in names:
        line = f"{name:24}"
        for of_kind, of in [*kinds.items(), ("both", kinds["similarity"] + kinds["retrieval"])]:
            having = [one for one in of if name in rows[0]["criteria"][one]]
            if not having:
                continue
            # Every set has a scale of its own: ranks are averaged, not values.
            ranks = np.mean([rank([row["criteria"][one][name] for row in rows]) for one in having], axis=0)
            for kind in dict.fromkeys((of_kind, "both")):
                agreed = spearmanr(ranks, truth[kind]).statistic
                chosen = int(np.argmax(ranks))
                line += f" | {of_kind}>{kind}: {agreed:+.2f} regret {best[kind] - truth[kind][chosen]:4.1f}"
        print(line)


def rank(values: Sequence[float]) -> Array:
    """Ranks from 0 to 1; what is not a number is last."""
    found = np.nan_to_num(np.array(values), nan=-np.inf)
    return np.argsort(np.argsort(found)) / max(1, len(found) - 1)


if __name__ == "__main__":
    main()
