"""Step 10: the range of each dimension, for vectors with ``precision="int8"``.

    python -m research.default_model.step_10_ranges DATA [--output FOLDER]

DATA is as in step 1. Texts of every kind in it, and single words, are embedded as documents and as queries with the
config in FOLDER (by default the preset in the package), and the smallest and the largest number of each dimension
become part of that config. Single words matter: all of their lexical part lies in a few dimensions. Vectors of other
precisions do not change. It takes four minutes on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import random
from pathlib import Path

from safetensors.numpy import load_file, save_file

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.config.files import ARRAYS_FILE
from echo_embeddings.config.presets import PRESETS_FOLDER

from .texts import distinct, draw, rows, texts_in

__all__ = ["main"]

#: Texts of each kind, and the most characters of one.
COUNT, LONGEST = 40, 400
#: Texts of one word, and of two.
WORDS = 100
PAIRS = ("papers_title_abstract", "medquad_qa_hardneg", "cppdocs_heading_section")
ALONE = ("gutenberg_paragraphs", "nltk_abc")


def texts(data: Path) -> list[str]:
    """Draw as many texts of each kind: titles and questions, passages, prose, news."""
    rng = random.Random(0)  # noqa: S311 - no secret
    pairs = [rows(data, f"pairs/{name}") for name in PAIRS]
    kinds = [[row[side] for row in found if row.get(side)] for found in pairs for side in ("anchor", "positive")]
    kinds += [texts_in(data / "text" / f"{name}.jsonl.gz") for name in ALONE]
    found = [text[:LONGEST] for kind in kinds for text in distinct(kind, COUNT, rng)]
    words = [word for text in found for word in text.split()]
    twos = [" ".join(pair) for pair in itertools.pairwise(words)]
    short = draw(dict.fromkeys(words), WORDS, rng) + draw(twos, WORDS, rng)
    return found + short


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the training data")
    parser.add_argument("--output", type=Path, default=PRESETS_FOLDER / "default", help="folder of the config")
    arguments = parser.parse_args(argv)
    before = EchoConfig.load(arguments.output)
    preset = arguments.output == PRESETS_FOLDER / "default"
    encoder = EchoEncoder() if preset else EchoEncoder(arguments.output)
    drawn = texts(arguments.data)
    ranges = encoder.fit_ranges(drawn).config.ranges
    arrays = load_file(arguments.output / ARRAYS_FILE)
    before.replace(ranges=ranges).save(arguments.output)
    # The others keep their dtype, which may be float16.
    save_file(load_file(arguments.output / ARRAYS_FILE) | arrays, arguments.output / ARRAYS_FILE)
    print(f"{ranges} of {len(drawn)} texts, in {arguments.output}")


if __name__ == "__main__":
    main()
