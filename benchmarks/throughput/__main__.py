"""Compare the throughput of this library with what people would run instead, in one table from one run.

    make bench                                          # everything; no other program should run meanwhile
    python -m benchmarks.throughput --quick             # about three minutes
    python -m benchmarks.throughput --gpu --out FOLDER  # about two and a half minutes, also with --shape mistral-7b
    python -m benchmarks.throughput --only st-echo-best,ours-echo --no-memory --sizes ""

Writes results.json (with the seconds of every round), results.md and, if matplotlib is installed, two plots. Each
module here says at its top in which respects the comparison is fair and in which it is not; so do the notes under the
tables.
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

from echo_embeddings.model import builtin

from . import gpu, measure, plots, report, shapes, stages
from .clock import Clock
from .contender import Place
from .contenders import DEFAULT, Field, factories
from .mixes import Prose, mixes
from .settings import Settings, parse

#: The beginnings of environment variables that throughput may depend on; they are written into the results.
ENVIRONMENT = ("OMP_", "MKL_", "KMP_", "TOKENIZERS_", "PYTORCH_", "CUDA_", "NVIDIA_TF32")


def main(argv: list[str] | None = None) -> None:
    settings = parse(argv, __doc__)
    names = list(settings.only or (shapes.CONTENDERS if settings.shape else DEFAULT))
    if unknown := sorted(set(names) - set(factories())):
        sys.exit(f"no contender {unknown[0]!r}; there are {', '.join(factories())}")
    gpu.exact_float32()
    settings.out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"mixes": [], "latency": [], "corpora": [], "lengths": [], "memory": {}}
    text = ""
    for stage in run(settings, names, result):
        # Written again after each stage, so that an interrupted run keeps what it has measured.
        (settings.out / "results.json").write_text(json.dumps(result, indent=1) + "\n")
        text = report.markdown(result)
        (settings.out / "results.md").write_text(text)
        print(f"done: {stage}", flush=True)
    if settings.plots:
        plots.draw(result, settings.out)
    print(f"\n{text}\n{result['minutes']:.1f} minutes; written to {settings.out}")


def run(settings: Settings, names: list[str], result: dict[str, Any]) -> Iterator[str]:
    """Measure everything and put it into ``result``; yield the name of each stage when it is done."""
    clock = Clock(settings.budget)
    shape, device = settings.shape, settings.device
    folder = builtin.folder() if shape is None else shapes.folder(shape, settings.tokenizer)
    kept = float("inf") if settings.one_by_one else gpu.kept(device, len(names))
    with closing(Field(Place(str(folder), device, shape, kept), clock=clock)) as field:
        if field.is_parallel:
            field.start(names)
        prose = Prose(AutoTokenizer.from_pretrained(field.place.folder))
        even = (settings.even, settings.even_tokens)
        texts = mixes(prose, settings.short, settings.passages, settings.tail, settings.longest, even)
        result |= about(settings) | {"failures": field.failures, "minutes": 0.0}
        started = time.perf_counter()
        measured = stages.one_by_one if settings.one_by_one else stages.together
        for stage in measured(settings, names, field, prose, texts, result):
            result["minutes"] = (time.perf_counter() - started) / 60
            yield stage


def about(settings: Settings) -> dict[str, Any]:
    """Describe the run: date, commit, command, machine, versions."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": _commit(),
        "command": " ".join(["python -m benchmarks.throughput", *sys.argv[1:]]),
        "machine": machine(settings.device),
        "versions": {name: version(name) for name in ("torch", "transformers", "sentence-transformers", "numpy")},
        "rounds": settings.rounds,
    }


def machine(device: str) -> dict[str, Any]:
    """Describe the machine, and measure the speed of its matrix products."""
    load = [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "load": load,
        "environment": {name: value for name, value in os.environ.items() if name.startswith(ENVIRONMENT)},
        "python": platform.python_version(),
        "bf16_peak": measure.peak(device, torch.bfloat16),
        "float32_peak": measure.peak(device, torch.float32),
        **gpu.about(device),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return model or platform.processor() or platform.machine()


def _commit() -> str:
    """The short hash of the commit, with ``-dirty`` after it if files were changed; ``unknown`` without git."""
    git = partial(subprocess.run, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    try:
        found = git(["git", "describe", "--always", "--dirty"])
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
