"""Where the copy is made and where it is pooled: maps of start_layer and exit_layer. The paper uses all layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.evaluation.datasets import Dataset, Pairs, Retrieval
from echo_embeddings.types import Vectors
from research.any_model.grid import captured
from research.paper.figures import heat_maps
from research.paper.passes import unit
from research.paper.report import Section, Table
from research.paper.scoring import joined, key, ndcg, spearman
from research.paper.study import Study

NAME, NEEDS_DATA = "layers", True
STARTS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8)
SAMPLES, PAIRS, QUERIES, DOCUMENTS = 3, 40, 15, 30
TASKS = ("similarity", "retrieval")
ECHO = EchoConfig.preset("echo")


def run(study: Study) -> Section:
    """Measure all models and say what was found."""
    values = {model: {task: _of_task(study, model, task) for task in TASKS} for model in study.models}
    figures: dict[str, tuple[Any, str]] = {}
    rows = []
    for number, (model, of_tasks) in enumerate(values.items()):
        exits = list(range(1, of_tasks[TASKS[0]]["depth"] + 1))
        grids = {
            task: [_row(found["rows"][str(start)], len(exits)) for start in STARTS] for task, found in of_tasks.items()
        }
        figures[f"{number}"] = (
            heat_maps(
                {f"{model}: {task}": grid for task, grid in grids.items()},
                {f"{model}: {task}": [f"{start:g}" for start in STARTS] for task in grids},
                {f"{model}: {task}": exits for task in grids},
                ("start_layer, fraction of the depth", "exit_layer"),
            ),
            f"{model}: score by start_layer and exit_layer",
        )
        rows += [[model, task, *_best(grids[task], exits)] for task in TASKS]
    table = Table(
        "The best layers, and what the paper's method (start 0, all layers, with the final norm) and the preset "
        "`late-echo` (0.6 and 0.8) have. Spearman x100 on stsb_en and nDCG@10 x100 on scitldr, small samples: "
        "differences of a point or two say nothing.",
        ["model", "task", "best start", "best exit", "score there", "`late-echo`", "start 0, last layer", "with norm"],
        [[*row, values[row[0]][row[1]]["rows"]["0.0"]["norm"]] for row in rows],
    )
    return Section(NAME, "Which layers", _findings(values), [table], figures)


def _of_task(study: Study, model: str, task: str) -> dict[str, Any]:
    """The model's depth, and the mean over samples by start and exit; the samples there are, for similarity."""
    count = SAMPLES if task == "similarity" else 1
    samples = study.samples(count, lambda sample: _measured(study, model, task, sample))
    found = joined([{start: one["scores"] for start, one in sample.items()} for sample in samples])
    rows = {start: {name: float(np.mean(scores)) for name, scores in of.items()} for start, of in found.items()}
    return {"depth": samples[0][str(STARTS[0])]["depth"], "rows": rows}


def _measured(study: Study, model: str, task: str, sample: int) -> dict[str, dict[str, Any]]:
    """What :func:`scored` gives for each start, on one sample."""
    data = (
        study.pairs("stsb_en", sample, PAIRS)
        if task == "similarity"
        else study.retrieval("scitldr", sample, QUERIES, DOCUMENTS)
    )
    found = {}
    for start in STARTS:
        config = ECHO.replace(start_layer=start, final_norm=False)
        place = key(study, model, config, data)
        found[str(start)] = study.once(NAME, place, lambda config=config: scored(_encoder(study, model, config), data))
    return found


def _encoder(study: Study, model: str, config: EchoConfig) -> EchoEncoder:
    body, tokenizer = study.loaded(model)
    return EchoEncoder(body, config, tokenizer=tokenizer, on_truncate="ignore", speed=False)


def scored(encoder: EchoEncoder, data: Dataset) -> dict[str, Any]:
    """The score at every exit, from one pass: by the number of the layer; ``"norm"`` is the last with the norm."""
    with captured(encoder, ["mean"]) as embed:
        parts = [embed(texts) for texts in data.texts if texts]
    layers = encoder.runtime.backbone.layers
    exits = [*map(str, range(layers.start + 1, layers.depth + 1)), "norm"]
    return {
        "depth": layers.depth,
        "scores": {name: _score(data, [unit(part[:, i, 0].numpy()) for part in parts]) for i, name in enumerate(exits)},
    }


def _score(data: Dataset, vectors: list[Vectors]) -> float:
    return spearman(data, vectors[0]) if isinstance(data, Pairs) else ndcg(cast("Retrieval", data), *vectors)


def _row(scores: Mapping[str, float], depth: int) -> list[float]:
    return [scores.get(str(exit_), math.nan) for exit_ in range(1, depth + 1)]


def _best(grid: list[list[float]], exits: list[int]) -> list[Any]:
    found = np.array(grid)
    start, exit_ = np.unravel_index(int(np.nanargmax(found)), found.shape)
    late = found[STARTS.index(0.6), round(0.8 * len(exits)) - 1]
    return [f"{STARTS[start]:g}", str(exits[exit_]), float(found[start, exit_]), float(late), float(found[0, -1])]


def _findings(values: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    said = []
    for model, of_tasks in values.items():
        for task, found in of_tasks.items():
            depth, rows = found["depth"], found["rows"]
            grid = np.array([_row(rows[str(start)], depth) for start in STARTS])
            start, exit_ = np.unravel_index(int(np.nanargmax(grid)), grid.shape)
            last, norm = grid[0, -1], rows["0.0"]["norm"]
            late = grid[STARTS.index(0.6), round(0.8 * depth) - 1]
            said.append(
                f"**{model}**, {task}: best is a copy made at {STARTS[start]:g} of the depth and pooled after layer "
                f"{exit_ + 1} of {depth} ({grid[start, exit_]:.1f}). All layers and the norm, as in the paper, have "
                f"{norm:.1f} ({last:.1f} without the norm), the preset `late-echo` has {late:.1f}."
            )
    return said
