"""Keep the pooled states of every exit layer for texts with labels, and for parts of texts, of many configurations.

    python -m research.any_model.states DEV --model FOLDER --output STATES

What ``criteria.py`` reads: whether a number that needs no labels ranks configurations as labels do (issue 25). The
model runs once for each template and start layer; everything else is arithmetic on what is kept here.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.data.files import whole_file
from echo_embeddings.evaluation.datasets import Dataset
from research.any_model.grid import TEMPLATES
from research.paper.study import Study

#: Each set with the size of its sample: pairs; or queries and documents.
SIMILARITY = {"stsb_en": 80, "sick_trial": 60, "stsb_de": 60}
RETRIEVAL = {"scitldr": (40, 60), "squad_devA": (40, 60), "med": (3, 70)}
#: Templates, start layers and poolings, the most telling first.
PASSES: tuple[tuple[str, float, str], ...] = (
    ("rewrite, twice", 0.6, "mean"),
    ("context in one word", 0.0, "mean_and_last"),
    ("write, once", 0.0, "mean"),
    ("rewrite, twice", 0.5, "mean"),
    ("one word", 0.0, "last"),
    ("rewrite, twice", 0.0, "mean"),
    ("plain, twice", 0.6, "mean"),
    ("rewrite, twice", 0.7, "mean"),
    ("plain, twice", 0.0, "mean"),
    ("again, twice", 0.6, "mean"),
    ("rewrite, twice", 0.4, "mean"),
)
LONGEST = 64  # content tokens


def main(arguments: Sequence[str] | None = None) -> None:
    """Capture what is not there yet."""
    parser = argparse.ArgumentParser(prog="python -m research.any_model.states")
    parser.add_argument("data", type=Path, help="a folder with sts/*.tsv and retrieval/*/")
    parser.add_argument("--model", help="hub id or folder; the built-in model by default")
    parser.add_argument("--output", type=Path, required=True, help="a folder")
    parser.add_argument("--passes", type=int, default=len(PASSES), help="only the first of them")
    given = parser.parse_args(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    texts = sorted({text for dataset in samples(given.data).values() for text in needed(dataset)})
    for name, start, pooling in PASSES[: given.passes]:
        target = given.output / f"{name} {start}.npz"
        if target.exists():
            continue
        started = time.monotonic()
        template, _ = TEMPLATES[name]
        config = EchoConfig(template=template, pooling=pooling, start_layer=start, max_length=LONGEST)
        off = {"fused_layers": False, "last_layer": False}
        encoder = EchoEncoder(given.model, config, speed=off, on_truncate="ignore", dtype="float32")
        states = encoder.runtime.states_at_exits(texts, "document").astype(np.float16)
        layers = encoder.runtime.backbone.layers
        if not np.isfinite(states).all():
            raise ValueError("states do not fit into float16")
        with whole_file(target) as path, path.open("wb") as file:
            np.savez(file, states=states, start=layers.start, depth=layers.depth)
        print(f"{name} {start}: {time.monotonic() - started:.0f} s, {states.shape}", flush=True)


def samples(data: Path) -> dict[str, Dataset]:
    """The sets with labels, by name."""
    study = Study(Path(), {}, data)
    found: dict[str, Dataset] = {name: study.pairs(name, 0, size) for name, size in SIMILARITY.items()}
    return found | {name: study.retrieval(name, 0, *size) for name, size in RETRIEVAL.items()}


def needed(dataset: Dataset) -> list[str]:
    """Every text that is embedded for a set: its documents, its queries, and the parts of its documents."""
    documents, queries = dataset.texts
    parts = [part for text in documents for part in (*halves(text), *first_sentence(text))]
    return [text for text in [*documents, *queries, *parts] if text]


def halves(text: str) -> tuple[str, str]:
    """The first and the second half of a text, by words."""
    words = text.split()[:LONGEST]
    middle = (len(words) + 1) // 2
    return " ".join(words[:middle]), " ".join(words[middle:])


def first_sentence(text: str) -> tuple[str, str]:
    """The first sentence, and what follows it; two empty strings if nothing follows."""
    found = re.match(r"(.{15,}?[.!?。])\s+(.{15,})", text, flags=re.DOTALL)
    return (found[1], found[2]) if found else ("", "")


if __name__ == "__main__":
    main()
