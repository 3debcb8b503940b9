"""A study: the models, samples of the data, and a file of measurements that a second run goes on with."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.data.files import locked
from echo_embeddings.errors import InputError
from echo_embeddings.evaluation.datasets import Dataset, Pairs, Retrieval, open_dataset
from echo_embeddings.evaluation.local import open_local
from echo_embeddings.model import builtin

__all__ = ["NotMeasured", "Study"]

MEASUREMENTS = "measurements.jsonl"
# What a measurement has, and what an environment.
_FIELDS: tuple[set[str], ...] = ({"experiment", "key", "value"}, {"number", "environment"})
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

    def once(self, experiment: str, key: Mapping[str, Any], compute: Callable[[], Any], data: str | None = None) -> Any:
        """The value that was measured for this key; if there is none yet, compute it and write it down.

        Args:
            experiment: the experiment's name.
            key: all that the value depends on, as JSON: the model's fingerprint, the config's, the data's digest. Names
                for readers may stand there too.
            compute: gives the value, as JSON.
            data: a digest of the data, where the key has no more than their names: what was measured on other data does
                not count. ``None`` where it is not known, as without a folder of data: the last value counts. What was
                written down without one counts for all data.

        Raises:
            NotMeasured: there is none, and the study is only to be reported.
        """
        name = _name(experiment, key)
        found = self._values.setdefault(name, {})
        if data is None and found:
            return found[next(reversed(found))]
        if data not in found and None not in found:
            if not self.measure:
                raise NotMeasured(name)
            value = compute()
            line = {"experiment": experiment, "key": key, "value": value, "environment": self._environment()}
            with self._alone():
                self._append(line if data is None else line | {"data": data})
            found[data] = value
        return found[data] if data in found else found[None]

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
        dataset = self.pairs_all(name)
        rows = _part(list(range(len(dataset.scores))), sample, size)
        return Pairs(*([column[row] for row in rows] for column in (dataset.scores, dataset.first, dataset.second)))

    def pairs_all(self, name: str) -> Pairs:
        """All of ``sts/NAME.tsv``."""
        dataset = self._dataset(f"sts/{name}.tsv")
        if not isinstance(dataset, Pairs):
            raise InputError(f"sts/{name}.tsv holds no pairs with scores")
        return dataset

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
            raise InputError(f"retrieval/{name} is no folder in BEIR's layout")
        return dataset

    def translations(self, name: str, size: int) -> list[tuple[str, str]]:
        """``size`` rows of ``bitext/NAME.tsv``: a sentence and its translation."""
        rows: dict[str, list[str]] = open_local(self._path(f"bitext/{name}.tsv")).read()
        return _part(list(zip(rows["sentence1"], rows["sentence2"], strict=True)), 0, size)

    def _dataset(self, path: str) -> Dataset:
        return open_dataset(self._path(path))

    def _path(self, path: str) -> Path:
        """A file or folder of the data.

        Raises:
            NotMeasured: there is none.
        """
        if self.data is None:
            raise NotMeasured(f"{path}: no folder of data was given")
        if not (self.data / path).exists():
            raise NotMeasured(f"{path}: there is none in {self.data}")
        return self.data / path

    def _environment(self) -> int:
        found = {
            "versions": {name: version(name) for name in _PACKAGES},
            "python": platform.python_version(),
            "processor": _processor(),
            "threads": torch.get_num_threads(),
        }
        if found not in self._environments.values():
            with self._alone():
                self._environments = _read(self._file)[0]  # another run may have written there meanwhile
                if found not in self._environments.values():
                    number = max(self._environments, default=-1) + 1
                    self._append({"number": number, "environment": found})
                    self._environments[number] = found
        return next(number for number, one in self._environments.items() if one == found)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other run write into the output meanwhile."""
        self.output.mkdir(parents=True, exist_ok=True)
        with locked(self._file, wait=True):
            yield

    def _append(self, line: Mapping[str, Any]) -> None:
        """Write a line. A kill in the middle leaves a part of a line, which the next run passes over."""
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


def _read(path: Path) -> tuple[dict[int, dict[str, Any]], dict[str, dict[str | None, Any]]]:
    """The environments by their numbers; and the values by what was measured, and by the digest of the data."""
    environments: dict[int, dict[str, Any]] = {}
    values: dict[str, dict[str | None, Any]] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n") if path.exists() else [], start=1):
        if (row := _row(line)) is None:
            print(f"{path}:{number} is passed over: it is no measurement, and is measured again if it was one")
        elif "experiment" in row:
            values.setdefault(_name(row["experiment"], row["key"]), {})[row.get("data")] = row["value"]
        elif row:
            environments[row["number"]] = row["environment"]
    return environments, values


def _row(line: bytes) -> dict[str, Any] | None:
    """What a line holds; ``None`` if a run was killed while it wrote it, or somebody has damaged it."""
    try:
        row = json.loads(line or b"{}")
    except ValueError:
        return None
    is_whole = isinstance(row, dict) and (not row or any(names <= row.keys() for names in _FIELDS))
    return row if is_whole else None


def _ends_a_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def _shuffled(rows: list[T]) -> list[T]:
    return random.Random(0).sample(rows, len(rows))  # noqa: S311 - no secret


def _part(rows: list[T], sample: int, size: int) -> list[T]:
    part = _shuffled(rows)[sample * size : (sample + 1) * size]
    if len(part) < size:
        raise InputError(f"{len(rows)} rows have no sample {sample} of {size}; give a larger file of data")
    return part


def _processor() -> str:
    try:
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        names = []
    return names[0].split(":")[1].strip() if names else platform.processor()
