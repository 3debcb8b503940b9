"""The commands of this distribution: declared in its pyproject, light to describe, and apart from training."""

import os
import subprocess
import sys
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import tomllib

import sentence_transformers_echo
from echo_embeddings.cli.plugins import GROUP
from tests import processes

PROJECT = Path(__file__).parents[3] / "integrations" / "sentence-transformers" / "pyproject.toml"
COMMANDS = tomllib.loads(PROJECT.read_text())["project"]["entry-points"][GROUP]


def in_a_fresh_process(code, *arguments, **env):
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["train", "mine"])
def test_a_declared_command_is_a_function_with_help(name):
    function = EntryPoint(name, COMMANDS[name], GROUP).load()
    assert (function.__name__, bool(function.__doc__)) == (name, True)
    assert set(COMMANDS) == {"train", "mine"}


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["mine", "--help"]])
def test_help_waits_for_no_heavy_package(tmp_path, arguments):
    info = tmp_path / "sentence_transformers_echo-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sentence-transformers-echo\nVersion: 0.1.0\n")
    listed = "".join(f"{name} = {value}\n" for name, value in COMMANDS.items())
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{listed}")
    code = (
        "import sys\nfrom echo_embeddings.cli import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    heavy = {'torch', 'transformers', 'sentence_transformers', 'datasets'}\n"
        "    print(sorted(heavy & set(sys.modules)))\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    shown = in_a_fresh_process(code, *arguments, PYTHONPATH=path)
    assert shown.splitlines()[-1] == "[]"
    wanted = {"train": "--resume", "mine": "--negatives", "--help": "Fine-tune a model"}[arguments[0]]
    assert wanted in shown


def test_training_needs_no_command_line():
    code = """
import sys

class Absent:
    asked = []

    def find_spec(self, name, *_):
        if name in ("typer", "rich"):
            self.asked.append(name)
            raise ModuleNotFoundError(name)

for name in [name for name in sys.modules if name.partition(".")[0] in ("typer", "rich")]:
    del sys.modules[name]
sys.meta_path.insert(0, Absent())
import sentence_transformers_echo.training
commands = ("echo_embeddings.cli", "sentence_transformers_echo.commands")
print([name for name in sys.modules if name.startswith(commands)], "typer" in Absent.asked)
"""
    done = processes.run(code)
    assert done.stdout == "[] False\n", done.stderr


def test_every_exported_name_is_there():
    for name in sentence_transformers_echo.__all__:
        assert getattr(sentence_transformers_echo, name).__doc__
    with pytest.raises(AttributeError, match="module 'sentence_transformers_echo' has no attribute 'nothing'"):
        _ = sentence_transformers_echo.nothing
    assert import_module("sentence_transformers_echo.folder").load is sentence_transformers_echo.load
