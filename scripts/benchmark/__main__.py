"""Embedding with a causal language model, side by side with what people would run instead: one table, one run.

    make bench                                     # everything; needs the machine for itself
    python -m scripts.benchmark --quick            # about three minutes
    python -m scripts.benchmark --only st-echo-best,ours-echo --no-memory --sizes ""

Writes results.json (with every round), results.md and, with matplotlib, two plots. What is fair about it and what is
not stands at the top of each module here and under the tables.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from echo_embeddings import builtin

from . import curves, measure, plots, report, shapes
from .contender import Place
from .contenders import DEFAULT, Field, factories
from .mixes import Mix, Prose, mixes
from .settings import Settings, parse


def main(argv: list[str] | None = None) -> None:
    settings = parse(argv, __doc__)
    names = settings.only or list(shapes.CONTENDERS if settings.shape else DEFAULT)
    if unknown := sorted(set(names) - set(factories())):
        sys.exit(f"no contender {unknown[0]!r}; there are {', '.join(factories())}")
    settings.out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"mixes": [], "latency": [], "corpora": [], "lengths": [], "memory": {}}
    for stage in run(settings, names, result):
        # Written again at each stage: what has been measured is kept if a later stage is interrupted.
        (settings.out / "results.json").write_text(json.dumps(result, indent=1) + "\n")
        print(f"done: {stage}", flush=True)
    text = report.markdown(result)
    (settings.out / "results.md").write_text(text)
    plots.draw(result, settings.out)
    print(f"\n{text}\n{result['minutes']:.1f} minutes; written to {settings.out}")


def run(settings: Settings, names: list[str], result: dict[str, Any]) -> Iterator[str]:
    """Measure everything into ``result``, and say what is done after each stage."""
    folder = builtin.folder() if settings.shape is None else shapes.folder(settings.shape, settings.device)
    with closing(Field(Place(str(folder), settings.device, settings.shape is None))) as field:
        yield from _stages(settings, names, field, result)


def _stages(settings: Settings, names: list[str], field: Field, result: dict[str, Any]) -> Iterator[str]:
    started = time.perf_counter()
    prose = Prose(AutoTokenizer.from_pretrained(field.place.folder))
    texts = mixes(prose, settings.short, settings.passages, settings.tail, settings.longest)
    result |= about(settings) | {"failures": field.failures}
    field.load(names)
    for mix in texts:
        result["mixes"].append(measure.table(field, mix, settings.rounds, settings.cap, settings.cosines))
        yield mix.name
    short, passages, _ = result["mixes"]
    curves.use_batch_sizes(field, passages)
    spread = (settings.lengths, settings.length_tokens, settings.length_rounds)
    result["lengths"] = curves.by_length(field, prose, *spread)
    yield "lengths"
    curves.use_batch_sizes(field, short)
    result["latency"] = curves.latency(field, settings.queries) if settings.queries else []
    yield "latency"
    if settings.memory:
        result["memory"] = _memory(field, texts, result["mixes"])
        yield "memory"
    result["corpora"] = curves.by_corpus(field, settings.sizes, settings.size_cap) if settings.sizes else []
    result["minutes"] = (time.perf_counter() - started) / 60
    yield "corpora"


def about(settings: Settings) -> dict[str, Any]:
    """When, what and with what."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": _commit(),
        "command": " ".join(["python -m scripts.benchmark", *sys.argv[1:]]),
        "machine": machine(settings.device),
        "versions": {name: version(name) for name in ("torch", "transformers", "sentence-transformers", "numpy")},
        "rounds": settings.rounds,
    }


def machine(device: str) -> dict[str, Any]:
    """What it was measured on."""
    load = [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "load": load,
        "environment": {name: value for name, value in os.environ.items() if name.startswith(("OMP_", "MKL_", "KMP_"))},
        "python": platform.python_version(),
        "bf16_peak": measure.peak(device, torch.bfloat16),
        "float32_peak": measure.peak(device, torch.float32),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return model or platform.processor() or platform.machine()


def _commit() -> str:
    """The short hash, and whether there were changes on top of it."""
    git = partial(subprocess.run, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    try:
        found = git(["git", "describe", "--always", "--dirty"])
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"


def _memory(field: Field, texts: list[Mix], tables: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Peak memory of each contender on the texts that it ran."""
    marks: dict[str, dict[str, float]] = {}
    for name in field.loaded:
        entries = [entry for table in tables for entry in table["entries"] if entry["contender"] == name]
        print(f"memory: {name}", flush=True)
        if (found := field.attempt(name, "memory", partial(_marks, field, name, texts, entries))) is not None:
            marks[name] = found
    return marks


def _marks(field: Field, name: str, texts: list[Mix], entries: list[dict[str, Any]]) -> dict[str, float]:
    """MiB at the high-water mark after each mix, in a fresh process; a mark once reached stays."""
    by_name = {mix.name: mix for mix in texts}
    with closing(field.fresh(name)) as guest:
        marks = {"loaded": guest.high_water()}
        for entry in entries:
            guest.batch_size = entry["batch_size"]
            guest.seconds([by_name[entry["mix"]].texts[i] for i in entry["chosen"]])
            marks[entry["mix"]] = guest.high_water()
    return marks


if __name__ == "__main__":
    main()
