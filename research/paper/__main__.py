"""Measure and report: ``python -m research.paper DATA --output docs/results``; ``make evaluate`` does it.

What is in ``measurements.jsonl`` of the output is not measured again: a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from echo_embeddings.errors import InputError
from research.paper import report
from research.paper.experiments import ORDER, methods
from research.paper.study import NotMeasured, Study

BUILTIN = "SmolLM2-135M"
#: The folders that data stand in.
KINDS = ("sts", "retrieval", "bitext")
HEAD = """# Results

Made by `make evaluate`; numbers with hashes of config and data, versions and hardware are in
[measurements.jsonl](measurements.jsonl)."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run experiments and write the report."""
    parser = argparse.ArgumentParser(prog="python -m research.paper", description="The paper's experiments.")
    parser.add_argument("data", type=Path, nargs="?", help="a folder with sts/*.tsv and retrieval/*/; none: own data")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FOLDER", help="another model; repeatable")
    parser.add_argument("--only", nargs="*", choices=ORDER, default=ORDER, help="experiments to measure")
    parser.add_argument("--quick", action="store_true", help="own data only, in ten minutes")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the report again")
    parser.add_argument("--samples", type=_count, metavar="N", help="measure so many samples of each experiment; all")
    parser.add_argument("--methods", nargs="*", default=[], metavar="NAME", help="measure these methods only; all")
    given = parser.parse_args(arguments)
    for fault in _faults(given):
        parser.error(fault)  # before the first hours
    models: dict[str, str | None] = {BUILTIN: None}
    models |= {name: str(Path(folder).expanduser()) for name, folder in (pair.split("=", 1) for pair in given.model)}
    how = {"quick": given.quick, "measure": not given.report, "most_samples": given.samples, "methods": given.methods}
    study = Study(given.output, models, given.data, **how)
    names = [method.name for method in methods.all_methods(study)]
    if unknown := [name for name in given.methods if name not in names]:
        parser.error(f"--methods {unknown[0]!r}: there is no such method; there are {', '.join(names)}")
    run(study, given.only)
    print(f"wrote {given.output / 'README.md'}")


def _count(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is no whole number of at least 1")
    return int(value)


def _faults(given: argparse.Namespace) -> Iterator[str]:
    """What is wrong with the arguments, a sentence each."""
    names = [BUILTIN, *(pair.partition("=")[0] for pair in given.model)]
    for pair in given.model:
        name, _, folder = pair.partition("=")
        path = Path(folder).expanduser()
        if not name or not folder:
            yield f"--model {pair!r}: give a name for the report and a folder, such as --model Gemma-3-270M=gemma"
        if names.count(name) > 1:
            yield f"--model {pair!r}: {name!r} is the name of another model; each has its own"
        if not path.is_dir() and (path.exists() or folder.count("/") != 1 or folder[0] in "./~"):
            yield f"--model {pair!r}: there is no folder {folder!r}; give one with config.json and weights, or a hub id"
        if path.is_dir() and not (path / "config.json").is_file():
            yield f"--model {pair!r}: the folder has no config.json; give one with a model of transformers"
    if given.data is not None and not any((given.data / kind).is_dir() for kind in KINDS):
        yield f"{given.data} has none of the folders {', '.join(KINDS)}; give a folder with data in them, or none"
    if given.output.exists() and not given.output.is_dir():
        yield f"--output {given.output} is a file; give a folder"


def run(study: Study, only: Sequence[str] = ORDER) -> None:
    """Measure experiments, and write the report of all that were measured, now or before.

    Args:
        study: models, data, and where the report goes.
        only: names of experiments to measure.
    """
    sections, missing, may_measure = [], [], study.measure
    for name in ORDER:
        experiment = importlib.import_module(f"research.paper.experiments.{name}")
        study.measure = may_measure and name in only and not (study.quick and experiment.NEEDS_DATA)
        started = time.monotonic()
        try:
            sections.append(experiment.run(study))
            print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
        except (NotMeasured, InputError) as error:
            missing.append(name)
            if study.measure or isinstance(error, InputError):
                print(f"{name} was not measured: {error}", flush=True)
    study.measure = may_measure
    report.write(sections, study.output, HEAD + (f" Not measured yet: {', '.join(missing)}." if missing else ""))


if __name__ == "__main__":
    main()
