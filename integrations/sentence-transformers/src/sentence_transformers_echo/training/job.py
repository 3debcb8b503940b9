"""What the weights of a training run depend on. A checkpoint goes on only in the job that wrote it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from datasets import Dataset

from echo_embeddings import ConfigError
from echo_embeddings.config import presets
from echo_embeddings.config.files import ARRAYS_FILE, CONFIG_FILE

from .recipe import Recipe

__all__ = ["job_of", "require_same"]

#: Fields of a recipe that may change between a run and its resumption: they do not change what is learned, or the job
#: names their content instead (model, data, config, lora).
_FREE = {
    "compiled",
    "config",
    "data",
    "data_folder",
    "evaluate",
    "evaluate_every",
    "evaluate_limit",
    "lora",
    "mini_batch_tokens",
    "model",
    "output",
    "save_every",
}


def job_of(recipe: Recipe, data: Mapping[str, Dataset], weights: str) -> dict[str, str]:
    """The job as names and values, which can be compared and shown.

    Args:
        recipe: the run.
        data: the rows of each data set, as they were read.
        weights: the fingerprint of the base model's weights.
    """
    job = {one.name: _shown(getattr(recipe, one.name)) for one in fields(recipe) if one.name not in _FREE}
    job |= {f"lora.{name}": _shown(value) for name, value in asdict(recipe.lora).items() if name != "start"}
    job |= {f"data {entry.title!r}": f"{entry.loss}, {_rows(data[entry.title])}" for entry in recipe.data}
    job["order of data"] = _shown([entry.title for entry in recipe.data])
    job["config"] = recipe.echo_config.fingerprint()
    job["weights of the model"] = weights
    if recipe.lora.start is not None:
        folder = Path(recipe.lora.start).expanduser()
        files = (presets.ADAPTER_WEIGHTS, presets.ADAPTER_CONFIG, CONFIG_FILE, ARRAYS_FILE)
        content = b"\0".join((folder / name).read_bytes() for name in files if (folder / name).is_file())
        job["lora.start"] = hashlib.sha256(content).hexdigest()[:16]
    return job


def require_same(checkpoint: Path, saved: Mapping[str, Any], job: Mapping[str, str]) -> None:
    """Check that a checkpoint was written by this job.

    Args:
        checkpoint: its folder, for the message.
        saved: the job that it was written by.
        job: the job that wants to go on.

    Raises:
        ConfigError: it was another job; the message names what differs.
    """
    other = sorted(name for name in saved.keys() | job.keys() if saved.get(name) != job.get(name))
    if not other:
        return
    what = "adapters" if any(name.startswith("lora.") for name in other) else "settings, data or weights"
    told = "; ".join(f"{name} was {saved.get(name)}, now {job.get(name)}" for name in other)
    raise ConfigError(
        f"{checkpoint} was written by a recipe with other {what}; train into another output folder, or give what was "
        f"given then: {told}"
    )


def _shown(value: Any) -> str:
    """A value of a recipe, written in one way however it was given: 1.0 is 1, and a list is a tuple."""
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_shown, value))})"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return repr(value)


def _rows(rows: Dataset) -> str:
    sha = hashlib.sha256(repr(rows.column_names).encode())
    for row in rows:
        sha.update(json.dumps(row, sort_keys=True).encode())
    return f"{len(rows):,} rows {sha.hexdigest()[:16]}"
