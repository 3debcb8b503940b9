"""The table of versions in the docs says what ``pyproject.toml`` allows and what the tests run with."""

import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import tomllib

ROOT = Path(__file__).parents[2]
PINS = dict(re.findall(r"^([\w-]+)==([\w.]+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))


def pins(which):
    command = [sys.executable, ROOT / ".ci/lowest.py", which]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(line.split("==") for line in done.stdout.split())


def test_the_table_of_versions():
    page = (ROOT / "docs/versions.md").read_text()
    rows = re.findall(r"^\| ([\w-]+) \| ([\d.]+) \| ([\d.]*) \|", page, re.MULTILINE)
    table = {name: pair for name, *pair in rows}
    assert table == {name: [version, PINS.get(name, "")] for name, version in pins("lowest").items()}


def test_newest_are_not_pinned():
    assert pins("newest") == {}


def test_every_package_has_a_lower_bound():
    """Else nobody knows what it works with; the built-in model's package is one version for ever."""
    for path in (ROOT / "pyproject.toml", *ROOT.glob("integrations/*/pyproject.toml")):
        project = tomllib.loads(path.read_text())["project"]
        for requirement in [*project["dependencies"], *chain(*project.get("optional-dependencies", {}).values())]:
            if not requirement.startswith("echo-embeddings["):
                assert re.match(r"[\w-]+(\[[\w,]+\])?(>=|==)\d", requirement), f"{path}: {requirement}"


def test_the_version_of_torch_that_tests_run_with_is_allowed():
    bound = re.search(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert tuple(map(int, PINS["torch"].split("."))) >= tuple(map(int, bound.split(".")))
