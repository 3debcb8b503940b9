"""The words beside the echo: how the default's lexical part was made (docs/training.md).

    python scripts/default_words.py TRAIN --old PRESET

TRAIN is as for default_texts.py, and so is what is left out; PRESET is the folder of the default before it had words
(the result of default-3.yaml). Nothing is trained: n-grams are weighed by how rare they are in passages, titles and
questions of the training data and everyday sentences, a minute's work. Of the map that the echo had, the first 320
dimensions are kept. What is made is written into the package, beside the adapter, which stays as it is.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path

import everyday
import numpy as np
from default_passages import draw
from default_texts import rows
from safetensors.numpy import load_file, save_file

from echo_embeddings import EchoConfig, Lexical, Project
from echo_embeddings.config import ARRAYS_FILE
from echo_embeddings.packaged import PRESETS_FOLDER

#: How many pairs of a title, question or summary and its passage, and how many passages alone, are read.
PAIRS = {
    "papers_title_abstract": 5000,
    "papers_tldr_abstract": 1400,
    "medquad_qa_hardneg": 2600,
    "cppdocs_heading_section": 1000,
}
ALONE = {"gutenberg_paragraphs": 5000, "nltk_abc": 4000}
EVERYDAY = 3000
LONGEST = 900  # characters
#: How many dimensions of the echo stand beside the words, and how long words are beside it: the second in queries.
ECHO, LENGTHS = 320, (0.5, 1.0)


def texts(train: Path) -> list[str]:
    """What rarity is measured on."""
    rng = random.Random(0)  # noqa: S311 - no secret
    found: list[str] = draw(everyday.sentences(40000), EVERYDAY, rng)
    for name, count in PAIRS.items():
        for row in draw(rows(train, f"pairs/{name}"), count, rng):
            found += [row["anchor"], row["positive"]]
    for name, count in ALONE.items():
        found += [row["text"] for row in draw(rows(train, f"text/{name}"), count, rng)]
    return list(dict.fromkeys(" ".join(text.split())[:LONGEST] for text in found))


def first(project: Project, dimension: int) -> Project:
    """The first dimensions of a map."""
    return Project(project.arrays["weight"][:, :dimension], project.arrays["bias"][:dimension])


def in_half(folder: Path) -> None:
    """Write the arrays in float16, which loses nothing that counts and halves what is in git."""
    arrays = load_file(folder / ARRAYS_FILE)
    save_file({name: array.astype(np.float16) for name, array in arrays.items()}, folder / ARRAYS_FILE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("--old", type=Path, required=True, help="folder of the preset without words")
    arguments = parser.parse_args()
    old = EchoConfig.load(arguments.old)
    (project,) = old.transforms
    if not isinstance(project, Project):
        raise TypeError(f"{arguments.old} has a {type(project).__name__} behind its adapter, not a Project")
    read = texts(arguments.train)
    document, query = (replace(old.templates[0], lexical=length) for length in LENGTHS)
    made = old.replace(
        template=document, query_template=query, transforms=(first(project, ECHO),), lexical=Lexical.fit(read)
    )
    made.save(PRESETS_FOLDER / "default")
    in_half(PRESETS_FOLDER / "default")
    print(f"{len(read)} texts; written to {PRESETS_FOLDER / 'default'}")


if __name__ == "__main__":
    main()
