"""2026-11-28. How few texts can standardising and whitening be fitted on?

Six for standardising, and one more than there are dimensions for whitening; below, single draws fall far under no fit
at all. Measured on 2 to 1,200 texts and two samples, in about ten minutes. Table: research/log.md.

    python -m research.experiments.fewest_texts DEV

DEV is the folder of development sets that ``benchmarks/quality.py`` describes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.quality import _parts
from echo_embeddings import EchoEncoder, Project, Standardize
from echo_embeddings.evaluation import open_dataset
from echo_embeddings.types import Vectors
from echo_embeddings.vectors.normalize import unit

__all__ = ["main"]

COUNTS = (2, 3, 5, 7, 10, 16, 32, 64, 128, 256, 500, 1000)
DRAWS = 20


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dev", type=Path, help="folder of development sets")
    dev = parser.parse_args(argv).dev
    encoder = EchoEncoder(config="late-echo", max_length=96, on_truncate="ignore")
    for path, limit, most in ((dev / "retrieval" / "squad_devA", 25, 500), (dev / "sts" / "stsb_en.tsv", 200, 1200)):
        dataset = open_dataset(path, limit)
        used = {text for texts in dataset.texts for text in texts}
        others = sorted({text for texts in open_dataset(path).texts for text in texts} - used)
        order = np.random.default_rng(0).permutation(len(others))[:most]
        pool = _parts(encoder.runtime, [others[i] for i in order], "document")[0]
        documents, queries = dataset.texts
        states = [_parts(encoder.runtime, documents, "document")[0], _parts(encoder.runtime, queries, "query")[0]]
        print(f"{path.name:12} no fit       {dataset.score(*map(_unit, states)):6.2f}", flush=True)
        for name, fit in (("standardize", Standardize.fit), ("whiten", Project.whiten)):
            for count in (count for count in COUNTS if count <= len(pool)):
                scores = []
                for draw in range(DRAWS):
                    made = fit(pool[np.random.default_rng(draw).permutation(len(pool))[:count]])
                    scores.append(dataset.score(*(_unit(made(part)) if len(part) else part for part in states)))
                print(
                    f"{path.name:12} {name:12} {count:5} {np.mean(scores):6.2f} (worst {min(scores):.2f})", flush=True
                )


def _unit(vectors: Vectors) -> Vectors:
    return unit(vectors.copy())


if __name__ == "__main__":
    main()
