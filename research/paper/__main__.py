"""Measure and report: ``python -m research.paper DATA --output docs/results``; ``make evaluate`` does it.

What is in ``measurements.jsonl`` of the output is not measured again: a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Sequence
from pathlib import Path

from research.paper import report
from research.paper.experiments import ORDER
from research.paper.study import NotMeasured, Study

HEAD = """# Results

Made by `make evaluate`; numbers with hashes of config and data, versions and hardware are in
[measurements.jsonl](measurements.jsonl). Not measured yet: {missing}."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run experiments and write the report."""
    parser = argparse.ArgumentParser(prog="python -m research.paper", description="The paper's experiments.")
    parser.add_argument("data", type=Path, nargs="?", help="a folder with sts/*.tsv and retrieval/*/; none: own data")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FOLDER", help="another model; repeatable")
    parser.add_argument("--only", nargs="*", choices=ORDER, default=ORDER, help="experiments to measure")
    parser.add_argument("--quick", action="store_true", help="own data only, in ten minutes")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the report again")
    parser.add_argument("--samples", type=int, metavar="N", help="measure so many samples of each experiment; all")
    parser.add_argument("--methods", nargs="*", default=[], metavar="NAME", help="measure these methods only; all")
    given = parser.parse_args(arguments)
    models: dict[str, str | None] = {"SmolLM2-135M": None}
    models |= dict(pair.split("=", 1) for pair in given.model)
    how = {"quick": given.quick, "measure": not given.report, "most_samples": given.samples, "methods": given.methods}
    study = Study(given.output, models, given.data, **how)
    run(study, given.only)
    print(f"wrote {given.output / 'README.md'}")


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
        except NotMeasured:
            missing.append(name)
    study.measure = may_measure
    report.write(sections, study.output, HEAD.format(missing=", ".join(missing) or "nothing"))


if __name__ == "__main__":
    main()
