"""Fine-tuning curves of echo and classical over steps (paper, figure 13), from what research/log.md holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research.paper.figures import lines
from research.paper.report import Section, Table
from research.paper.study import Study

NAME, NEEDS_DATA = "sample_efficiency", False
LOG = Path(__file__).parents[2] / "log.md"
HEADER = "| arm | steps | layer-tokens | STS before | STS | retrieval before | retrieval |"
ARMS = ("classical", "late echo, same compute", "echo, same compute")


@dataclass(frozen=True)
class Arm:
    """One arm of a run: the mean over its seeds, with the least and the greatest where there were several."""

    run: str
    name: str
    steps: int
    sts_before: float
    sts: tuple[float, float, float]
    retrieval_before: float
    retrieval: tuple[float, float, float]


def run(study: Study) -> Section:  # noqa: ARG001 - all experiments are called in one way
    """Read the log, and say what was found."""
    arms = logged(LOG.read_text(encoding="utf-8"))
    table = Table(
        "Built-in model, contrastive fine-tuning on 11,281 pairs in steps of 32; STS and retrieval of small samples, "
        "x100.",
        ["run", "arm", "steps", "STS before", "STS", "retrieval before", "retrieval"],
        [
            [
                arm.run,
                arm.name,
                str(arm.steps),
                arm.sts_before,
                _range(arm.sts),
                arm.retrieval_before,
                _range(arm.retrieval),
            ]
            for arm in arms
        ],
    )
    figures: dict[str, tuple[Any, str]] = {
        "curves": (
            lines(curves(arms), "compute, in steps of classical fine-tuning", "score x100"),
            "Scores by the compute of fine-tuning",
        )
    }
    return Section(NAME, "How fast fine-tuning learns", _findings(arms), [table], figures)


def logged(text: str) -> list[Arm]:
    """The arms of all runs in the log, the shortest runs first."""
    found = []
    for section in text.split("\n## ")[1:]:
        if HEADER not in section:
            continue
        rows = section.partition(HEADER)[2].split("\n\n")[0].splitlines()[2:]
        cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
        run = f"{cells[0][1]} steps, {section[:10]}"
        for name, steps, _, sts_before, sts, retrieval_before, retrieval in cells:
            found.append(
                Arm(
                    run,
                    name,
                    int(steps),
                    float(sts_before),
                    _numbers(sts),
                    float(retrieval_before),
                    _numbers(retrieval),
                )
            )
    return sorted(found, key=lambda arm: int(arm.run.split()[0]))


def curves(arms: Sequence[Arm]) -> Mapping[str, Mapping[str, tuple[list[float], list[float]]]]:
    """Scores of the arms that had the compute of the classical one, by its steps; 0 is the score before."""
    found: dict[str, dict[str, tuple[list[float], list[float]]]] = {"STS": {}, "retrieval": {}}
    for name in ARMS:
        own = [arm for arm in arms if arm.name == name]
        places = [0.0, *(float(arm.run.split()[0]) for arm in own)]
        found["STS"][name] = (places, [own[0].sts_before, *(arm.sts[0] for arm in own)])
        found["retrieval"][name] = (places, [own[0].retrieval_before, *(arm.retrieval[0] for arm in own)])
    return found


def _numbers(cell: str) -> tuple[float, float, float]:
    values = [float(one) for one in re.findall(r"[\d.]+", cell)]
    return (values[0], values[1], values[2]) if len(values) == 3 else (values[0],) * 3


def _range(values: tuple[float, float, float]) -> str:
    mean, least, most = values
    return f"{mean:.1f}" if least == most else f"{mean:.1f} ({least:.1f} to {most:.1f})"


def _findings(arms: Sequence[Arm]) -> list[str]:
    said = []
    for metric in ("sts", "retrieval"):
        gaps = {}
        for run_ in dict.fromkeys(arm.run for arm in arms):
            own = {arm.name: getattr(arm, metric) for arm in arms if arm.run == run_}
            gaps[run_.split(",")[0]] = own["echo, same compute"][0] - own["classical"][0]
        first, last = next(iter(gaps.values())), list(gaps.values())[-1]
        said.append(
            f"For the same compute echo is ahead of classical in {'STS' if metric == 'sts' else 'retrieval'} by "
            + ", ".join(f"{gap:.1f} points after {steps}" for steps, gap in gaps.items())
            + (". The lead shrinks as training goes on." if last < first else ". The lead does not shrink.")
        )
    late = {arm.run: arm for arm in arms if arm.name == "late echo, same compute"}
    classical = {arm.run: arm for arm in arms if arm.name == "classical"}
    longest = arms[-1].run
    behind = late[longest].retrieval[0] - classical[longest].retrieval[0]
    against = (
        f"Late echo, for the same compute, is {behind:+.1f} points of retrieval and "
        f"{late[longest].sts[0] - classical[longest].sts[0]:+.1f} of STS against classical in the longest run: what it "
        "saves without training costs it part of the lead in fine-tuning."
    )
    limits = (
        "The run of 40 steps has one seed, the others three. No further seeds were run for this report, and the "
        "paper's 720 steps of 2,048 pairs are far more than these."
    )
    return [against, *said, limits]
