"""Print the lowest versions that the four ``pyproject.toml`` files allow, as constraints for pip; none for ``newest``.

torch is left out: only one build of it, for processors, can be installed without gigabytes of CUDA.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import tomllib

ROOT = Path(__file__).parent.parent


def requirements() -> Iterator[str]:
    """Every requirement of every distribution and extra."""
    for path in (ROOT / "pyproject.toml", *sorted(ROOT.glob("integrations/*/pyproject.toml"))):
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        yield from project["dependencies"]
        for extra, needed in project.get("optional-dependencies", {}).items():
            if extra != "builtin":
                yield from needed


def lowest() -> dict[str, str]:
    """The lower bound of each package; where two distributions differ, the higher one."""
    found: dict[str, str] = {}
    for requirement in requirements():
        bound = re.match(r"([\w-]+)(?:\[[\w,]+\])?>=([\d.]+)", requirement)
        if bound and bound[1] not in {"echo-embeddings", "torch"}:
            found[bound[1]] = max(found.get(bound[1], "0"), bound[2], key=_parts)
    return found


def _parts(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


if __name__ == "__main__":
    if sys.argv[1:] != ["newest"]:
        sys.stdout.writelines(f"{name}=={version}\n" for name, version in sorted(lowest().items()))
