"""The words beside the echo, and the map behind the adapter that knows of them (docs/training.md).

    python -m research.default_model.step_9_words TRAIN recipes/texts-6.jsonl recipes/sampled.jsonl --old FOLDER

FOLDER is what default_scaled.py made, TRAIN as for default_texts.py. Two steps on a processor, ten minutes:

- *Words.* N-grams are weighed by how rare they are in 60,000 of the texts that the adapter learned from.
- *Map.* Of the map in FOLDER the first 320 dimensions are kept. They learn to make up for what hashing loses: the whole
  vector and its first 512 and 256 dimensions shall rank texts as all 512 dimensions of the old map do beside words in
  4,096 dimensions, in which hardly any collide. Nobody else is asked.

What is made is written into the package: adapter, map, words, config.
"""

from __future__ import annotations

import argparse
import random
import shutil
from pathlib import Path

import everyday
import numpy as np
import torch
from default_passages import draw
from default_texts import rows, texts_in
from safetensors.numpy import load_file, save_file
from scaled_student import states_of
from torch import Tensor
from torch.nn.functional import normalize

from echo_embeddings import EchoConfig, Lexical, Project
from echo_embeddings.config.files import ARRAYS_FILE
from echo_embeddings.config.presets import ADAPTER_CONFIG, ADAPTER_WEIGHTS, PRESETS_FOLDER
from echo_embeddings.types import Vectors
from sentence_transformers_echo.training.ranking import descend, divergence

COUNTED = 60000
#: How many pairs of a title, question or summary and its passage, and how many texts alone, the map learns on.
PAIRS = {
    "papers_title_abstract": 2000,
    "papers_tldr_abstract": 500,
    "medquad_qa_hardneg": 1000,
    "cppdocs_heading_section": 500,
}
ALONE = {"gutenberg_paragraphs": 1500, "nltk_abc": 1500}
EVERYDAY = 3000
LONGEST = 620  # characters
#: How many dimensions of the echo stand beside the words, and how long words are beside it: the second in queries.
ECHO, LENGTHS = 320, (0.5, 1.0)
#: Between a query and a document words count as between two texts with words of this length.
BOTH = (LENGTHS[0] * LENGTHS[1]) ** 0.5
#: How much ranking counts in the whole vector and in prefixes.
PREFIXES = {1024: 1.0, 512: 1.0, 256: 2.0}
UNHASHED, STEPS, TEXTS, TEMPERATURE = 4096, 200, 500, 0.05


def rarity(files: list[Path]) -> Lexical:
    """N-grams weighed on texts drawn from all of the files."""
    texts = texts_in(*files)
    random.Random(0).shuffle(texts)  # noqa: S311 - no secret
    document, query = LENGTHS
    return Lexical.fit(texts[:COUNTED], document_weight=document, query_weight=query)


def taught_on(train: Path) -> tuple[list[str], int]:
    """Texts for the map: one side of all pairs, the other side of all, and texts alone; and how many pairs."""
    rng = random.Random(0)  # noqa: S311 - no secret
    pairs = [row for name, count in PAIRS.items() for row in draw(rows(train, f"pairs/{name}"), count, rng)]
    alone: list[str] = draw(everyday.sentences(40000), EVERYDAY, rng)
    for name, count in ALONE.items():
        alone += [row["text"] for row in draw(rows(train, f"text/{name}"), count, rng)]
    found = [row["positive"] for row in pairs] + [row["anchor"] for row in pairs] + alone
    return [" ".join(text.split())[:LONGEST] for text in found], len(pairs)


def beside_words(project: Project, lexical: Lexical, states: Vectors, texts: list[str], pairs: int) -> Project:
    """The first dimensions of a map, which learn what the words beside them lack."""
    inputs = torch.from_numpy(states)
    weight, bias = (torch.from_numpy(project.arrays[name].astype(np.float32)) for name in ("weight", "bias"))
    mean, std = inputs.mean(dim=0), inputs.std(dim=0)
    whole = normalize(inputs @ weight + bias, dim=1)
    plain = Lexical(lexical.arrays["weights"], UNHASHED, lexical.size)
    hashed, unhashed = (torch.from_numpy(part.vectors(texts)) * BOTH for part in (lexical, plain))
    inputs = (inputs - mean) / std
    matrix = (weight * std[:, None])[:, :ECHO].clone().requires_grad_()
    offset = (bias + mean @ weight)[:ECHO].clone().requires_grad_()

    generator, count = torch.Generator().manual_seed(0), len(texts)

    def loss() -> Tensor:
        some = torch.randperm(pairs, generator=generator)[: TEXTS * 4 // 5]
        others = 2 * pairs + torch.randperm(count - 2 * pairs, generator=generator)[: TEXTS * 2 // 5]
        some = torch.cat([some, some + pairs, others])  # both sides of some pairs, and some other texts
        echo = normalize(inputs[some] @ matrix + offset, dim=1)
        vectors = torch.cat(lexical.beside(echo, hashed[some]), dim=1)
        wanted = normalize(torch.cat([whole[some], unhashed[some]], dim=1), dim=1)
        likeness = wanted @ wanted.T
        ranks = [weight * divergence(vectors[:, :k], likeness, TEMPERATURE) for k, weight in PREFIXES.items()]
        return torch.stack(ranks).sum()

    descend([matrix, offset], loss, STEPS)
    with torch.no_grad():
        learned = matrix / std[:, None]
        return Project(learned.numpy(), (offset - mean @ learned).numpy())


def in_half(folder: Path) -> None:
    """Write the arrays in float16, which loses nothing that counts and halves what is in git."""
    arrays = load_file(folder / ARRAYS_FILE)
    save_file({name: array.astype(np.float16) for name, array in arrays.items()}, folder / ARRAYS_FILE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--old", type=Path, required=True, help="folder of the adapter and its map, without words")
    parser.add_argument("--output", type=Path, default=PRESETS_FOLDER / "default")
    arguments = parser.parse_args()
    old = EchoConfig.load(arguments.old)
    (project,) = old.transforms
    if not isinstance(project, Project):
        raise TypeError(f"{arguments.old} has a {type(project).__name__} behind its adapter, not a Project")
    lexical = rarity(arguments.texts)
    texts, pairs = taught_on(arguments.train)
    learned = beside_words(project, lexical, states_of(arguments.old, texts, 160), texts, pairs)
    made = old.replace(transforms=(learned,), lexical=lexical)
    made.save(arguments.output)
    in_half(arguments.output)
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        shutil.copy(arguments.old / name, arguments.output / name)
    print(f"{len(texts)} texts, {pairs} pairs; written to {arguments.output}")


if __name__ == "__main__":
    main()
