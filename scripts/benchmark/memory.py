"""Peak memory, in a fresh process for each contender: ``python -m scripts.benchmark.memory`` reads its job from stdin.

The high-water mark of resident memory (Linux's VmHWM; elsewhere ru_maxrss), importing and loading included, after the
same texts that the rounds ran, mix after mix from short to long: a mark once reached stays. Weights that are mapped
from their file count as far as they were read. On a GPU this is still the host's memory.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from .contender import Place
from .contenders import factories

TIMEOUT = 900


def measured(place: Place, name: str, jobs: list[dict[str, Any]]) -> dict[str, float]:
    """MiB at the high-water mark after loading and after each job: ``{"mix", "texts", "batch_size"}``.

    Raises:
        RuntimeError: the process died; says its last words.
    """
    job = {"folder": place.folder, "device": place.device, "name": name, "jobs": jobs}
    done = subprocess.run(
        [sys.executable, "-m", "scripts.benchmark.memory"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        cwd=Path(__file__).parents[2],
        env=os.environ,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"exit status {done.returncode}: {last}")
    marks: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return marks


def high_water() -> float:
    """MiB. ru_maxrss of a child begins with its parent's, so the kernel's own mark is better where there is one."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def main() -> None:
    job = json.load(sys.stdin)
    contender = factories()[job["name"]](Place(job["folder"], job["device"]))
    marks = {"loaded": high_water()}
    for part in job["jobs"]:
        contender.batch_size = part["batch_size"]
        contender.embed(part["texts"])
        marks[part["mix"]] = high_water()
    print(json.dumps(marks))


if __name__ == "__main__":
    main()
