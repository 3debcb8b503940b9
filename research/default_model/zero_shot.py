"""Fit the statistics of the preset ``zero-shot`` on general text, and write them into the package.

    python -m research.default_model.zero_shot DATA/text/gutenberg_paragraphs.jsonl.gz [MORE.jsonl.gz ...]

From each file 60 sentences and up to 60 paragraphs are drawn (seed 3), because queries are like the former and
documents like the latter; research/log.md compares other choices. The statistics in the package come from
gutenberg_paragraphs, cppdocs, nltk_abc, nltk_pil and nltk_webtext. No development or held-out set may be among the
files. The preset ``default`` does not use this: it was trained.
"""

from __future__ import annotations

import argparse
import random
import re
from pathlib import Path

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.config.presets import PRESETS_FOLDER

from .texts import texts_in

__all__ = ["main", "sample"]

SEED = 3
#: The most that are drawn from a file.
SENTENCES, PARAGRAPHS = 60, 60
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")

#: The best config in research/log.md, without the statistics that are fitted here.
ZERO_SHOT = EchoConfig.preset("late-echo").replace(start_layer=18, exit_layer=24)


def sample(path: Path) -> list[str]:
    """Draw sentences of 5 to 40 words and paragraphs of 50 to 250 words from a file, each from another text."""
    texts = sorted({text.strip() for text in texts_in(path)})  # so that the sample does not depend on their order
    sentences: list[str] = []
    paragraphs: list[str] = []
    for text in random.Random(SEED).sample(texts, len(texts)):  # noqa: S311  (a sample, no secret)
        if 50 <= len(text.split()) <= 250 and len(paragraphs) < PARAGRAPHS:
            paragraphs.append(text)
        elif len(sentences) < SENTENCES:
            sentences += [part for part in _SENTENCE_END.split(text) if 5 <= len(part.split()) <= 40][:1]
    return sentences + paragraphs


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, nargs="+", help="files of texts, JSON lines with a column text")
    parser.add_argument("--output", type=Path, default=PRESETS_FOLDER / "zero-shot", help="folder (the shipped preset)")
    arguments = parser.parse_args(argv)
    chosen = [text for path in arguments.texts for text in sample(path)]
    encoder = EchoEncoder(config=ZERO_SHOT, dtype="float32", on_truncate="ignore").fit_transforms(chosen)
    encoder.config.save(arguments.output)
    print(f"fitted on {len(chosen)} texts: {encoder.config}")


if __name__ == "__main__":
    main()
