"""Commands of other distributions: found by entry point, missing, or broken."""

import sys

import pytest
from typer.testing import CliRunner

from echo_embeddings.cli import plugins
from echo_embeddings.cli.app import app
from echo_embeddings.extras import from_checkout

CHECKOUT = from_checkout("./integrations/sentence-transformers[train]")

MODULE = """
from typing import Annotated

import typer

from echo_embeddings.errors import InputError


def greet(name: str, *, loud: Annotated[bool, typer.Option("--loud")] = False) -> None:
    \"\"\"Greet somebody.\"\"\"
    if name == "nobody":
        raise InputError("there is nobody")
    print(name.upper() if loud else name)
"""


def invoke(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def none_installed(monkeypatch):
    monkeypatch.setattr(plugins, "entry_points", lambda **_: ())


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """A distribution with a command of its own, one that cannot be imported, and one whose function is gone."""
    (tmp_path / "greeting.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    info = tmp_path / "greeting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
    commands = "greet = greeting:greet\nbreak = broken:run\ngone = greeting:nothing\n"
    (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{commands}")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("greeting", None)


def test_a_command_is_found_by_its_entry_point(distribution):
    assert "Greet somebody." in invoke("--help").stdout
    assert "--loud" in invoke("greet", "--help").stdout
    assert invoke("greet", "anna", "--loud").stdout == "ANNA\n"
    failed = invoke("greet", "nobody")
    assert (failed.exit_code, failed.stderr) == (1, "error: there is nobody\n")
    assert invoke("greet").exit_code == 2


def test_a_command_that_cannot_be_loaded_does_not_spoil_the_others(distribution):
    assert invoke("--help").exit_code == 0
    for name, reason in (("break", "No module named 'no_such_package'"), ("gone", "has no attribute 'nothing'")):
        failed = invoke(name, "x", "--y")
        assert failed.exit_code == 1
        said = " ".join(failed.stderr.split())
        assert said.startswith(f"error: the command {name!r} cannot be loaded from ")
        assert reason in said


@pytest.mark.parametrize(("name", "purpose"), [("train", "training"), ("mine", "mining")])
def test_without_its_distribution_a_command_says_what_to_install(none_installed, name, purpose):
    assert f" {name} " in invoke("--help").stdout
    for arguments in ([], ["recipe.yaml", "--resume", "--column", "q"]):
        failed = invoke(name, *arguments)
        assert failed.exit_code == 1
        said = " ".join(failed.stderr.split())
        assert said == f"error: {purpose} needs sentence-transformers-echo: {CHECKOUT}"


def test_an_unknown_command_is_wrong_usage(none_installed):
    assert invoke("nothing").exit_code == 2
