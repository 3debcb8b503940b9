"""What does the choice of ``tune`` lose to the best choice with labels, on samples that chose nothing?

    python -m research.any_model.choice DEV --model FOLDER --output STATES [--passes N]

``criteria.py`` compared numbers without labels, and the better ones are in ``tune``; so its samples cannot say how well
``tune`` chooses. Here are those of ``default.py``: ``tune`` sees 490 other texts of the same sets, transforms are
fitted on 160, and every configuration is judged with labels as it would be used, with words beside it. Printed: what
was chosen, what would have been best, and the difference (regret), for lengths of words that are fixed and for that of
the spread of the cosines. States are kept in the output, one file a pass of the model.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from echo_embeddings import EchoEncoder, Lexical
from echo_embeddings.config.config import Layers
from echo_embeddings.data.files import whole_file
from echo_embeddings.evaluation.datasets import Dataset
from echo_embeddings.tuning.candidates import PASSES, TRANSFORMS, Candidate, Pass, candidates
from echo_embeddings.tuning.halves import Halves, beginning, usable
from echo_embeddings.tuning.words import length_of_words, spread_of
from echo_embeddings.types import Vectors
from echo_embeddings.vectors.normalize import unit
from research.any_model.default import LONGEST, RETRIEVAL, SIMILARITY, fresh, unlabelled

#: Texts that judge, those that transforms are fitted on beside them, and words of each: as in ``tune``.
JUDGED, OTHERS, WORDS = 60, 100, 64
#: Lengths of words in documents that are tried beside the one by the spread.
FIXED = (0.0, 0.25, 0.5, 1.0)
BY_SPREAD = "by the spread"
States = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Judged:
    """A configuration.

    Attributes:
        candidate: which.
        numbers: those of its halves.
        scores: similarity and retrieval with labels, by the length of its words.
        length: the length of words by the spread.
    """

    candidate: Candidate
    numbers: tuple[float, ...]
    scores: Mapping[float | str, tuple[float, float]]
    length: float


@dataclass(frozen=True)
class Samples:
    """All texts that are needed.

    Attributes:
        sets: with labels.
        halves: texts that judge without labels.
        others: texts that transforms are fitted on.
        given: all texts that ``tune`` would be given; n-grams are counted in them.
    """

    sets: Mapping[str, Dataset]
    halves: Halves
    others: list[str]
    given: list[str]

    @classmethod
    def of(cls, data: Path) -> Samples:
        """Those of ``default.py``."""
        sets = fresh(data)
        given = unlabelled(data, sets)
        chosen = usable(given, JUDGED + OTHERS)
        others = [beginning(text, WORDS) for text in chosen[JUDGED:]]
        return cls(sets, Halves.of(chosen[:JUDGED], WORDS), others, given)

    @property
    def texts(self) -> list[str]:
        """What the model reads."""
        labelled = {text for dataset in self.sets.values() for part in dataset.texts for text in part}
        return sorted({*labelled, *self.halves.texts, *self.others})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the passes that are not kept, judge every configuration, and print what was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with sts/*.tsv and retrieval/*/")
    parser.add_argument("--model", help="hub id or folder; the built-in model by default")
    parser.add_argument("--output", type=Path, required=True, help="a folder for the states")
    parser.add_argument("--passes", type=int, default=len(PASSES), help="only the first of them (%(default)s)")
    given = parser.parse_args(arguments)
    samples, found = Samples.of(given.data), []
    for number, one in enumerate(PASSES[: given.passes]):
        states, layers, truncated = passed(given.model, one, samples, given.output / f"{number}.npz")
        found += judged(one, layers, states, samples, truncated)
        print(f"{one.name} {one.start}: {len(found)} configurations so far", flush=True)
    print(f"\n{table(found)}\n\n{by_transform(found)}")


def passed(
    model: str | None, one: Pass, samples: Samples, target: Path
) -> tuple[NDArray[np.float32], Layers, dict[str, str]]:
    """States of all texts at all exits ``[texts, exits, dim]``, the layers, and each text as far as it is read."""
    off = {"fused_layers": False, "last_layer": False}
    encoder = EchoEncoder(model, one.config(LONGEST), speed=off, on_truncate="ignore", dtype="float32")
    texts, layers = samples.texts, encoder.runtime.backbone.layers
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        states = encoder.runtime.states_at_exits(texts, "document")
        with whole_file(target) as path, path.open("wb") as file:
            np.savez(file, states=states)
    with np.load(target) as kept:
        states = kept["states"].astype(np.float32)
    offsets = [encoder.runtime.tokenizer.offsets(text, spaced=False)[:LONGEST] for text in texts]
    read = {text: text[: int(some[-1][1])] if len(some) else text for text, some in zip(texts, offsets, strict=True)}
    return states, layers, read


def judged(
    one: Pass, layers: Layers, states: NDArray[np.float32], samples: Samples, read: Mapping[str, str]
) -> list[Judged]:
    """Every configuration of one pass."""
    words, row = Lexical.fit(samples.given), {text: i for i, text in enumerate(samples.texts)}
    beside = {
        name: [words.vectors([read[text] for text in part]) for part in dataset.texts]
        for name, dataset in samples.sets.items()
    }
    of_words = spread_of(words.vectors(samples.halves.wholes))
    found = []
    for exit_, some in candidates(one, layers, max_cost=1.1):
        here = {text: states[i, exit_] for text, i in row.items()}
        halves, others = stacked(here, samples.halves.texts), stacked(here, samples.others)
        wholes = halves[: len(samples.halves.wholes)]
        for candidate in some:
            fit = TRANSFORMS[candidate.transform]
            if fit is None and candidate.transform != "none":
                continue  # EmbedFilter needs the model
            judging = unit(halves if fit is None else fit(others)(halves))
            length = length_of_words(samples.halves.shares[0], spread_of(judging[: len(wholes)]), of_words)
            final = None if fit is None else fit(np.concatenate([wholes, others]))
            scores: dict[float | str, tuple[float, float]] = {}
            for name, value in {**{fixed: fixed for fixed in FIXED}, BY_SPREAD: length}.items():
                scores[name] = averages(samples.sets, here, final, beside, value)
            found.append(Judged(candidate, samples.halves.measure(judging), scores, length))
    return found


def averages(
    sets: Mapping[str, Dataset], states: States, transform: Any, words: Mapping[str, list[Vectors]], length: float
) -> tuple[float, float]:
    """Similarity and retrieval with words of this length in documents, and of twice that in queries."""
    scores = {}
    for name, dataset in sets.items():
        made = []
        for texts, beside, weight in zip(dataset.texts, words[name], (length, 2 * length), strict=True):
            echo = stacked(states, texts)
            echo = unit(echo if transform is None or not len(echo) else transform(echo))
            made.append(unit(np.concatenate([echo, weight * beside], axis=1)))
        scores[name] = dataset.score(made[0], made[1])
    similarity, retrieval = (float(np.mean([scores[name] for name in kind])) for kind in (SIMILARITY, RETRIEVAL))
    return similarity, retrieval


def stacked(states: States, texts: Sequence[str]) -> NDArray[np.float32]:
    """The states of these texts: ``[texts, dim]``."""
    return np.stack([states[text] for text in texts]) if texts else np.empty((0, len(next(iter(states.values())))))


def table(found: Sequence[Judged]) -> str:
    """For each length of words: what the halves choose, what labels would choose, and the difference."""
    chosen = choice(found)
    rows = ["| words | chosen | similarity / retrieval | best with labels | its average | regret |"]
    rows.append("| --- | --- | --: | --- | --: | --: |")
    for length in (*FIXED, BY_SPREAD):
        best = max(found, key=lambda one: sum(one.scores[length]))
        own, most = sum(chosen.scores[length]) / 2, sum(best.scores[length]) / 2
        said = f"{BY_SPREAD} ({chosen.length:g})" if length == BY_SPREAD else f"{length:g}"
        scores = " / ".join(f"{score:.1f}" for score in chosen.scores[length])
        rows.append(f"| {said} | {name_of(chosen)} | {scores} | {name_of(best)} | {most:.1f} | {most - own:.1f} |")
    return f"{len(found)} configurations\n\n" + "\n".join(rows)


def by_transform(found: Sequence[Judged]) -> str:
    """For each transform what the halves choose among its configurations, with each length of words."""
    names = [f"{length:g}" if isinstance(length, float) else length for length in (*FIXED, BY_SPREAD)]
    rows = [f"| transform | chosen | {' | '.join(names)} |", "| --- | --- |" + " --: |" * len(names)]
    for transform in dict.fromkeys(one.candidate.transform for one in found):
        chosen = choice([one for one in found if one.candidate.transform == transform])
        cells = " | ".join("{:.1f} / {:.1f}".format(*chosen.scores[length]) for length in (*FIXED, BY_SPREAD))
        rows.append(f"| {transform} | {name_of(chosen)} | {cells} |")
    return "\n".join(rows)


def choice(found: Sequence[Judged]) -> Judged:
    """What the halves choose, as ``tune`` does."""
    ranks = [rankdata(numbers, "min") for numbers in zip(*(one.numbers for one in found), strict=True)]
    return found[int(np.argmax(np.mean(ranks, axis=0)))]


def name_of(one: Judged) -> str:
    """A configuration in words."""
    of = one.candidate
    start = f" from layer {of.start}" if of.start else ""
    return f"{of.of.name}{start} to {of.exit}{' + norm' * of.final_norm}, {of.transform}"


if __name__ == "__main__":
    main()
