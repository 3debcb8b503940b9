"""Step 9: the words beside the echo, and the map behind the adapter, which takes account of them.

    python -m research.default_model.step_9_words DATA corpus.jsonl generated.jsonl --old run-4 --output default

DATA is as in step 1; run-4 is the output of step 8. Two things are made, in ten minutes on a processor:

- *Words.* N-grams get weights by how rare they are in 60,000 of the texts that the adapter was trained on.
- *Map.* The first 320 dimensions of the map in run-4 are kept, and trained to make up for what hashing loses. Several
  words share one place of a hashed part. So the whole vector and its first 512 and 256 dimensions shall rank texts as
  all 512 dimensions of the old map do, beside words in 4,096 places, which hardly any words share. No other teacher is
  needed.

Adapter, map, words and config are written to ``--output``; by default that is the preset in the package.
"""

from __future__ import annotations

import argparse
import random
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

from echo_embeddings import EchoConfig, Lexical, Project
from echo_embeddings.config.files import ARRAYS_FILE
from echo_embeddings.config.presets import ADAPTER_CONFIG, ADAPTER_WEIGHTS, PRESETS_FOLDER
from echo_embeddings.types import Vectors
from sentence_transformers_echo.training.ranking import descend, divergence

from . import everyday
from .student import states_of
from .texts import draw, rows, texts_in

__all__ = ["main"]

#: Texts in which n-grams are counted.
COUNTED = 60000
#: Pairs of a title, question or summary and its passage, and texts alone, on which the map is trained.
PAIRS = {
    "papers_title_abstract": 2000,
    "papers_tldr_abstract": 500,
    "medquad_qa_hardneg": 1000,
    "cppdocs_heading_section": 500,
}
ALONE = {"gutenberg_paragraphs": 1500, "nltk_abc": 1500}
EVERYDAY = 3000
#: Characters of a text that are kept for that, and content tokens of the model.
LONGEST, TOKENS = 620, 160
#: Dimensions of the echo beside the words, and the length of the words' part if the echo's is 1: documents, queries.
ECHO, LENGTHS = 320, (0.5, 1.0)
#: With this length in both texts, words count as they do between a document and a query.
BOTH = (LENGTHS[0] * LENGTHS[1]) ** 0.5
#: The weight of ranking in the whole vector and in its first dimensions.
PREFIXES = {1024: 1.0, 512: 1.0, 256: 2.0}
#: Places of words of which hardly any share one.
UNHASHED = 4096
#: Steps of training, texts of each, and the temperature of the softmax over cosines.
STEPS, TEXTS, TEMPERATURE = 200, 500, 0.05


def rarity(files: list[Path]) -> Lexical:
    """Count n-grams in texts that are drawn from all of the files."""
    document, query = LENGTHS
    counted = draw(texts_in(*files), COUNTED, random.Random(0))  # noqa: S311 - no secret
    return Lexical.fit(counted, document_weight=document, query_weight=query)


def taught_on(data: Path) -> tuple[list[str], int]:
    """Draw texts for the map: the passages of all pairs, their other sides, texts alone; and count the pairs."""
    rng = random.Random(0)  # noqa: S311 - no secret
    pairs = [row for name, count in PAIRS.items() for row in draw(rows(data, f"pairs/{name}"), count, rng)]
    alone: list[str] = draw(everyday.sentences(everyday.ENOUGH), EVERYDAY, rng)
    for name, count in ALONE.items():
        alone += [row["text"] for row in draw(rows(data, f"text/{name}"), count, rng)]
    found = [row["positive"] for row in pairs] + [row["anchor"] for row in pairs] + alone
    return [" ".join(text.split())[:LONGEST] for text in found], len(pairs)


def beside_words(project: Project, lexical: Lexical, states: Vectors, texts: list[str], pairs: int) -> Project:
    """Train the first 320 dimensions of a map to make up for what the words beside them lose by hashing.

    Args:
        project: the map to 512 dimensions.
        lexical: the words' part.
        states: pooled states of the texts, ``[n, hidden]``.
        texts: from :func:`taught_on`.
        pairs: from there too.
    """
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
        some = torch.cat([some, some + pairs, others])  # both sides of some pairs, and texts alone
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
    """Convert the arrays of a config to float16: half the size in git, and no difference in any score."""
    arrays = load_file(folder / ARRAYS_FILE)
    save_file({name: array.astype(np.float16) for name, array in arrays.items()}, folder / ARRAYS_FILE)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of training data")
    parser.add_argument("texts", type=Path, nargs="+", help="files of texts in which n-grams are counted")
    parser.add_argument("--old", type=Path, required=True, help="folder of the adapter and its map, without words")
    parser.add_argument(
        "--output", type=Path, default=PRESETS_FOLDER / "default", help="folder that is written (the shipped preset)"
    )
    arguments = parser.parse_args(argv)
    old = EchoConfig.load(arguments.old)
    (project,) = old.transforms
    if not isinstance(project, Project):
        raise TypeError(f"{arguments.old} has a {type(project).__name__} behind its adapter, not a Project")
    lexical = rarity(arguments.texts)
    texts, pairs = taught_on(arguments.data)
    learned = beside_words(project, lexical, states_of(arguments.old, texts, TOKENS), texts, pairs)
    made = old.replace(transforms=(learned,), lexical=lexical)
    made.save(arguments.output)
    in_half(arguments.output)
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        shutil.copy(arguments.old / name, arguments.output / name)
    print(f"{len(texts)} texts, {pairs} pairs; written to {arguments.output}")


if __name__ == "__main__":
    main()
