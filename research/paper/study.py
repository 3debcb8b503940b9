"""A study: the models, samples of the data, and a file of measurements that a second run goes on with."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.evaluation.datasets import Dataset, Pairs, Retrieval, open_dataset
from echo_embeddings.model import builtin

__all__ = ["NotMeasured", "Study"]

MEASUREMENTS = "measurements.jsonl"
T = TypeVar("T")
_PACKAGES = ("echo-embeddings", "torch", "transformers", "numpy")


class NotMeasured(Exception):  # noqa: N818 - it is no error
    """A measurement is not in the file, and the study is only to be reported."""


class Study:
    """What all experiments share.

    Args:
        output: the folder of the report. ``measurements.jsonl`` in it holds a line for each measurement: the
            experiment, what was measured (``key``: model, config, data by their digests), the value, and the number of
            the environment in which it was measured (versions, processor).
        models: where each model is, by the name that the report calls it; ``None`` is the built-in model.
        data: a folder with ``sts/*.tsv`` and ``retrieval/*/``. ``None`` if there is none: then only the experiments run
            whose data ships with the project.
        quick: take smaller samples, so that all is done in ten minutes.
        measure: ``False`` only reads what was measured.
        most_samples: measure so many samples of each experiment; ``None`` measures all. What the file has beyond them
            is reported too.
        methods: of the experiment that compares methods, measure those with these names only; empty for all.
    """

    def __init__(
        self,
        output: Path,
        models: Mapping[str, str | None],
        data: Path | None = None,
        *,
        quick: bool = False,
        measure: bool = True,
        most_samples: int | None = None,
        methods: Sequence[str] = (),
    ) -> None:
        self.output, self.models, self.data = output, dict(models), data
        self.quick, self.measure, self.most_samples, self.methods = quick, measure, most_samples, tuple(methods)
        self._file = output / MEASUREMENTS
        self._environments, self._values = _read(self._file)
        self._loaded: tuple[str, Any, Any] | None = None
        self._fingerprints: dict[str, str] = {}

    def encoder(self, model: str, config: EchoConfig | str) -> EchoEncoder:
        """An encoder in float32. The weights of one model are held at a time, for all its configs.

        Args:
            model: one of :attr:`models`.
            config: a config, or the name of a preset.
        """
        config = EchoConfig.preset(config) if isinstance(config, str) else config
        if config.packaged_adapter:
            return EchoEncoder(self.models[model], config, dtype="float32", on_truncate="ignore")
        body, tokenizer = self.loaded(model)
        return EchoEncoder(body, config, tokenizer=tokenizer, on_truncate="ignore")

    def loaded(self, model: str) -> tuple[Any, Any]:
        """A model in float32 as transformers loads it, with its head, and its tokenizer."""
        if self._loaded is None or self._loaded[0] != model:
            self._loaded = None  # freed before the next one is loaded
            folder = self.models[model] or builtin.folder()
            body = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            self._loaded = model, body, AutoTokenizer.from_pretrained(folder)
        return self._loaded[1:]

    def fingerprint(self, model: str) -> str:
        """A digest of the model's weights, of 12 characters."""
        if model not in self._fingerprints:
            encoder = EchoEncoder(self.models[model], "classical", dtype="float32")
            self._fingerprints[model] = encoder.weights_fingerprint()[:12]
        return self._fingerprints[model]

    def once(self, experiment: str, key: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
        """The value that was measured for this key; if there is none yet, compute it and write it down.

        Args:
            experiment: the experiment's name.
            key: all that the value depends on, as JSON: the model's fingerprint, the config's, the data's digest. Names
                for readers may stand there too.
            compute: gives the value, as JSON.

        Raises:
            NotMeasured: there is none, and the study is only to be reported.
        """
        name = _name(experiment, key)
        if name not in self._values:
            if not self.measure:
                raise NotMeasured(name)
            value = compute()
            self._append({"experiment": experiment, "key": key, "value": value, "environment": self._environment()})
            self._values[name] = value
        return self._values[name]

    def samples(self, count: int, measured: Callable[[int], T]) -> list[T]:
        """What was measured of samples 0, 1, ..., as far as they are whole; those that are missing are measured now.

        Args:
            count: how many samples the experiment has.
            measured: all that is measured of one sample, on every model, so that an early stop leaves whole tables.

        Raises:
            NotMeasured: not even the first sample is whole.
        """
        before, found = self.measure, []
        try:
            for sample in range(count):
                self.measure = before and (self.most_samples is None or sample < self.most_samples)
                found.append(measured(sample))
        except NotMeasured:
            if not found:
                raise
        finally:
            self.measure = before
        return found

    def pairs(self, name: str, sample: int, size: int) -> Pairs:
        """Sample ``sample`` (from 0) of ``sts/NAME.tsv``: ``size`` pairs. Samples do not overlap."""
        dataset = self._dataset(f"sts/{name}.tsv")
        if not isinstance(dataset, Pairs):
            raise TypeError(f"{name} holds no pairs")
        rows = _part(list(range(len(dataset.scores))), sample, size)
        return Pairs(*([column[row] for row in rows] for column in (dataset.scores, dataset.first, dataset.second)))

    def retrieval(self, name: str, sample: int, queries: int, documents: int) -> Retrieval:
        """Sample ``sample`` (from 0) of ``retrieval/NAME``: its queries do not overlap with other samples'.

        Args:
            name: the folder's name.
            sample: the number of the sample.
            queries: how many queries.
            documents: how many documents: the relevant ones, and others by chance.
        """
        dataset = self.retrieval_all(name)
        asked = {one: dataset.judgements[one] for one in _part(sorted(dataset.judgements), sample, queries)}
        relevant = {one for relevance in asked.values() for one, gain in relevance.items() if gain > 0}
        others = [one for one in _shuffled(sorted(dataset.documents)) if one not in relevant]
        kept = relevant | set(others[: max(0, documents - len(relevant))])
        texts = {one: text for one, text in dataset.documents.items() if one in kept}
        return Retrieval(texts, {one: dataset.queries[one] for one in asked}, asked)

    def retrieval_all(self, name: str) -> Retrieval:
        """All of ``retrieval/NAME``."""
        dataset = self._dataset(f"retrieval/{name}")
        if not isinstance(dataset, Retrieval):
            raise TypeError(f"{name} is no retrieval set")
        return dataset

    def translations(self, name: str, size: int) -> list[tuple[str, str]]:
        """``size`` rows of ``bitext/NAME.tsv``: a sentence and its translation."""
        if self.data is None:
            raise NotMeasured(f"{name}: no folder of data was given")
        lines = (self.data / "bitext" / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
        rows = [tuple(line.split("\t")) for line in lines]
        return [(row[0], row[1]) for row in _part(rows, 0, size)]

    def _dataset(self, path: str) -> Dataset:
        if self.data is None:
            raise NotMeasured(f"{path}: no folder of data was given")
        return open_dataset(self.data / path)

    def _environment(self) -> int:
        found = {
            "versions": {name: version(name) for name in _PACKAGES},
            "python": platform.python_version(),
            "processor": _processor(),
            "threads": torch.get_num_threads(),
        }
        if found not in self._environments:
            self._append({"number": len(self._environments), "environment": found})
            self._environments.append(found)
        return self._environments.index(found)

    def _append(self, line: Mapping[str, Any]) -> None:
        """Write a line. A kill in the middle leaves a part of a line, which the next run passes over."""
        self.output.mkdir(parents=True, exist_ok=True)
        with self._file.open("ab+") as file:
            if file.tell() and not _ends_a_line(file):
                file.write(b"\n")
            file.write(json.dumps(dict(line) | {"at": time.strftime("%Y-%m-%d")}, sort_keys=True).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def digest(value: Any) -> str:
    """A digest of a value that is JSON, or of a data set: 12 characters."""
    found = vars(value) if isinstance(value, Dataset) else value
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:12]


def _name(experiment: str, key: Mapping[str, Any]) -> str:
    return f"{experiment} {json.dumps(key, sort_keys=True)}"


def _read(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    environments: list[dict[str, Any]] = []
    values: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue  # a run was killed while it wrote this line
        if "experiment" in row:
            values[_name(row["experiment"], row["key"])] = row["value"]
        else:
            environments.append(row["environment"])
    return environments, values


def _ends_a_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def _shuffled(rows: list[Any]) -> list[Any]:
    return random.Random(0).sample(rows, len(rows))  # noqa: S311 - no secret


def _part(rows: list[Any], sample: int, size: int) -> list[Any]:
    part = _shuffled(rows)[sample * size : (sample + 1) * size]
    if len(part) < size:
        raise ValueError(f"{len(rows)} rows have no sample {sample} of {size}")
    return part


def _processor() -> str:
    try:
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        names = []
    return names[0].split(":")[1].strip() if names else platform.processor()
