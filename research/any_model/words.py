"""Find how long words should be beside vectors: for the rule and the recipes, to which nothing is fitted, and in tune.

    python -m research.any_model.words DEV --states STATES [--states STATES]

Reads what ``states.py`` kept. Vectors are raw states with the words of the default beside them, at each exit layer of
the late echo that starts at 0.6 of the depth, and of the paper's echo at its end. Printed: the average of three
similarity sets (Spearman) and of three retrieval sets (nDCG@10), and how shorter vectors do. It chose the length of
words in the preset ``any-model`` and the recipes in ``config/presets/models`` (2026-11-28).

Then, for each transform that ``tune`` tries, fitted on each set's own documents: the average of both, with words whose
cosines between documents vary so many times as much as those of the vectors. It chose the share of ``tune``
(2026-11-28).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echo_embeddings import EchoConfig, Lexical
from echo_embeddings.config.recipes import RULE
from echo_embeddings.evaluation.datasets import Dataset
from echo_embeddings.tuning.candidates import TRANSFORMS
from echo_embeddings.tuning.words import length_of_words, spread_of
from echo_embeddings.vectors.normalize import unit
from echo_embeddings.vectors.transforms import EmbedFilter
from research.any_model.states import RETRIEVAL, SIMILARITY, needed, samples

LENGTHS = (0.0, 0.25, 0.35, 0.5, 0.7, 1.0)
SHORTER = (512, 256)
SHALLOWEST = 0.65
#: How much words say beside the vectors, and the passes that are looked at, at about 0.8 of the depth or at the end.
SHARES = (0.0, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0)
ENDS = {"rewrite, twice 0.6": 0.8, "context in one word 0.0": 1.0}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the averages of all exits and lengths."""
    parser = argparse.ArgumentParser(prog="python -m research.any_model.words")
    parser.add_argument("data", type=Path)
    parser.add_argument("--states", type=Path, action="append", required=True, help="a folder of states.py; repeatable")
    given = parser.parse_args(arguments)
    sets = samples(given.data)
    words = words_of(sets)
    texts = sorted({text for dataset in sets.values() for text in needed(dataset)})
    row = {text: i for i, text in enumerate(texts)}
    for folder in given.states:
        print(f"\n# {folder.name}: similarity / retrieval, words of length {', '.join(map(str, LENGTHS))}")
        for name, start in (("rewrite, twice 0.0", 0), ("rewrite, twice 0.6", 1)):
            with np.load(folder / f"{name}.npz") as kept:
                states, first, depth = kept["states"].astype(np.float32), int(kept["start"]), int(kept["depth"])
            exits = range(first + 1, depth + 2) if start else [depth + 1]
            for exit_ in exits:
                if exit_ < SHALLOWEST * depth:
                    continue
                here = states[:, exit_ - first - 1]
                cells = ["{:.1f}/{:.1f}".format(*averages(sets, row, here, words, length)) for length in LENGTHS]
                print(f"{name}, exit {min(exit_, depth)}{' + norm' * (exit_ > depth)}: {'  '.join(cells)}", flush=True)
            if start:
                here = states[:, round(0.8 * depth) - first - 1]
                for kept_dimensions in SHORTER:
                    found = averages(sets, row, here, words, 0.5, kept_dimensions)
                    print(f"the rule, first {kept_dimensions} dimensions: {found[0]:.1f}/{found[1]:.1f}")
        print(f"\naverage of both, by the share of words: {', '.join(map(str, SHARES))}; and the lengths at 0.5")
        for name, end in ENDS.items():
            with np.load(folder / f"{name}.npz") as kept:
                states, first, depth = kept["states"].astype(np.float32), int(kept["start"]), int(kept["depth"])
            here = states[:, round(end * depth) - first - 1]
            for transform, fit in TRANSFORMS.items():
                if transform == EmbedFilter.name:
                    continue
                found_ = [by_share(sets, row, here, words, share, fit) for share in SHARES]
                lengths = found_[SHARES.index(0.5)][1]
                cells = "  ".join(f"{average:.1f}" for average, _ in found_)
                print(f"{name}, {transform}: {cells}; {min(lengths):.2f} to {max(lengths):.2f}", flush=True)


def lexical() -> Lexical:
    """The words of the rule."""
    found = EchoConfig.preset(RULE).lexical
    if found is None:
        raise ValueError(f"{RULE} has no words")
    return found


def words_of(sets: Mapping[str, Dataset]) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """The words of each set's documents and queries, of length 1."""
    made = lexical()
    return {name: (made.vectors(dataset.texts[0]), made.vectors(dataset.texts[1])) for name, dataset in sets.items()}


def averages(
    sets: Mapping[str, Dataset],
    row: Mapping[str, int],
    states: NDArray[np.float32],
    words: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
    length: float,
    dimensions: int | None = None,
) -> tuple[float, float]:
    """The averages of similarity and of retrieval, with words of a length in documents and of twice that in queries."""
    made, scores = lexical(), {}
    for name, dataset in sets.items():
        vectors = []
        for texts, of_words, weight in zip(dataset.texts, words[name], (length, 2 * length), strict=True):
            echo = unit(states[[row[text] for text in texts]]) if texts else np.empty((0, states.shape[1]), np.float32)
            joint = np.concatenate(made.beside(echo, weight * of_words), axis=1) if length else echo
            vectors.append(unit(joint[:, :dimensions]))
        scores[name] = dataset.score(vectors[0], vectors[1])
    similarity, retrieval = (float(np.mean([scores[name] for name in kind])) for kind in (SIMILARITY, RETRIEVAL))
    return similarity, retrieval


def by_share(
    sets: Mapping[str, Dataset],
    row: Mapping[str, int],
    states: NDArray[np.float32],
    words: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
    share: float,
    fit: Callable[[NDArray[np.float32]], Callable[[NDArray[np.float32]], NDArray[np.float32]]] | None,
) -> tuple[float, list[float]]:
    """The average of similarity and retrieval with words that say this much, and their length in each set."""
    scores, lengths = {}, []
    for name, dataset in sets.items():
        echo = [states[[row[text] for text in texts]] if texts else None for texts in dataset.texts]
        transform = None if fit is None else fit(echo[0])
        mapped = [None if part is None else unit(part if transform is None else transform(part)) for part in echo]
        lengths.append(length_of_words(share, spread_of(mapped[0]), spread_of(words[name][0])))
        made = [
            np.empty((0, 0)) if part is None else unit(np.concatenate([part, weight * lengths[-1] * beside], axis=1))
            for part, beside, weight in zip(mapped, words[name], (1, 2), strict=True)
        ]
        scores[name] = dataset.score(made[0], made[1])
    kinds = [float(np.mean([scores[name] for name in kind])) for kind in (SIMILARITY, RETRIEVAL)]
    return float(np.mean(kinds)), lengths


if __name__ == "__main__":
    main()
