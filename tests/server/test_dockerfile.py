"""The Dockerfile, as far as it can be checked without Docker: what it copies is there, and what it runs exists."""

import fnmatch
import json
import re
import shlex
from pathlib import Path

import tomllib
from typer.main import get_command

from echo_embeddings.cli.app import app

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions(name):
    return [line.removeprefix(name).strip() for line in LINES if line.startswith(f"{name} ")]


def test_what_it_copies_is_there_and_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().split()
    kept = [pattern.removeprefix("!") for pattern in ignored if pattern.startswith("!")]
    copied = [path for line in instructions("COPY") for path in shlex.split(line)[:-1]]
    assert "src" in copied
    for path in copied:
        assert (ROOT / path).exists(), path
        assert any(fnmatch.fnmatch(path, pattern) for pattern in kept), path
    assert set(kept) == set(copied)


def test_it_copies_what_the_package_is_built_from():
    copied = " ".join(instructions("COPY"))
    assert PROJECT["readme"] in copied
    assert all(name in copied for name in PROJECT["license-files"])


def test_it_installs_extras_and_the_model_that_there_are():
    run = " ".join(instructions("RUN"))
    extras = re.search(r'"\.\[([a-z,]+)\]"', run)[1].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    assert PROJECT["optional-dependencies"]["builtin"][0] in run


def test_it_starts_the_server_as_a_user_without_rights():
    entry = json.loads(instructions("ENTRYPOINT")[0])
    assert entry[0] in PROJECT["scripts"]
    command = get_command(app).get_command(None, entry[1])
    parameters = command.make_context("serve", entry[2:], resilient_parsing=True).params
    assert (parameters["host"], str(parameters["port"])) == ("0.0.0.0", instructions("EXPOSE")[0])
    assert instructions("USER") == ["echo"]
