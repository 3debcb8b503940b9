"""Fit the statistics of the preset "zero-shot" on general text and write them into the package.

    python -m research.default_model.zero_shot TEXTS.jsonl.gz [MORE.jsonl.gz ...]

Each file has a JSON object with ``text`` a line. From each a seeded sample is taken: 60 sentences and up to 60
paragraphs, because queries are the one and documents the other (research/log.md compares other choices). The statistics in
the package come from gutenberg_paragraphs, cppdocs, nltk_abc, nltk_pil and nltk_webtext. No development or held-out set
may be among the files.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
from pathlib import Path

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.config.presets import PRESETS_FOLDER

SEED = 3
SENTENCES, PARAGRAPHS = 60, 60
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")

#: What research/log.md found best, without the statistics that this script fits.
ZERO_SHOT = EchoConfig.preset("late-echo").replace(start_layer=18, exit_layer=24)


def read(path: Path) -> list[str]:
    """The distinct texts of a file, sorted, so that the sample does not depend on their order."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return sorted({json.loads(line)["text"].strip() for line in file})


def sample(texts: list[str]) -> list[str]:
    """Sentences of 5 to 40 words, and paragraphs of 50 to 250, each from a text of its own."""
    sentences: list[str] = []
    paragraphs: list[str] = []
    for text in random.Random(SEED).sample(texts, len(texts)):  # noqa: S311  (a sample, no secret)
        if 50 <= len(text.split()) <= 250 and len(paragraphs) < PARAGRAPHS:
            paragraphs.append(text)
        elif len(sentences) < SENTENCES:
            sentences += [part for part in _SENTENCE_END.split(text) if 5 <= len(part.split()) <= 40][:1]
    return sentences + paragraphs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, nargs="+")
    arguments = parser.parse_args()
    chosen = [text for path in arguments.texts for text in sample(read(path))]
    encoder = EchoEncoder(config=ZERO_SHOT, dtype="float32", on_truncate="ignore").fit_transforms(chosen)
    encoder.config.save(PRESETS_FOLDER / "zero-shot")
    print(f"fitted on {len(chosen)} texts: {encoder.config}")


if __name__ == "__main__":
    main()
