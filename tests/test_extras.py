"""Hints about what to install work in the environment that they are given in."""

import shutil
import subprocess
import sys

import pytest

from echo_embeddings import extras


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """An environment of its own, with nothing in it; the test says what is there."""

    def make(*packages, on_path=(), outside=False):
        programs = tmp_path / "bin"
        programs.mkdir(exist_ok=True)
        for name in ("python", *on_path):
            (programs / name).write_text("#!/bin/sh\n")
            (programs / name).chmod(0o755)
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        monkeypatch.setattr(sys, "base_prefix", str(tmp_path) if outside else "/usr")
        monkeypatch.setattr(sys, "executable", str(programs / "python"))
        monkeypatch.setenv("PATH", str(programs))
        monkeypatch.delenv("VIRTUAL_ENV", raising=False)
        monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
        monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: name in packages or None)
        monkeypatch.setattr(extras, "has_pip", lambda: "pip" in packages)
        return tmp_path

    return make


def test_with_pip(environment, monkeypatch):
    folder = environment("pip", on_path=["pip"])
    assert extras.install(".[cli]") == "pip install '.[cli]'"
    monkeypatch.setenv("PATH", "/usr/bin")  # the environment is not active: its pip is not the first one
    assert extras.install("x==1", options="--no-deps") == f"{folder}/bin/python -m pip install --no-deps x==1"


def test_uv_makes_environments_without_pip(environment, monkeypatch):
    folder = environment()
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\nuv = 0.9.1\n")
    assert extras.install(".[cli]") == f"uv pip install --python {folder}/bin/python '.[cli]'"
    monkeypatch.setenv("VIRTUAL_ENV", str(folder))
    assert extras.install(".[cli]") == "uv pip install '.[cli]'"
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")  # active only as long as `uv run` runs
    assert extras.install(".[cli]") == f"uv pip install --python {folder}/bin/python '.[cli]'"


def test_without_pip_but_with_uv(environment):
    folder = environment(on_path=["uv"])
    assert extras.install("x") == f"uv pip install --python {folder}/bin/python x"


def test_conda(environment):
    folder = environment()
    (folder / "conda-meta").mkdir()
    python = f"{folder}/bin/python"
    assert extras.install("x") == f"conda install --prefix {folder} pip && {python} -m pip install x"
    environment("pip", on_path=["pip"])
    assert extras.install("x") == "pip install x"


def test_pipx(environment):
    folder = environment()
    (folder / "pipx_metadata.json").write_text("{}")
    assert extras.install("x") == f"pipx runpip {folder.name} install x"


def test_neither_pip_nor_uv(environment):
    folder = environment("ensurepip")
    assert extras.install("x") == f"{folder}/bin/python -m ensurepip && {folder}/bin/python -m pip install x"
    environment()
    assert extras.install("x") == "install pip or uv, then run: pip install x"


def test_where_the_system_manages_packages(environment, monkeypatch):
    folder = environment("pip", outside=True)
    (folder / "EXTERNALLY-MANAGED").touch()
    monkeypatch.setattr(extras.sysconfig, "get_path", lambda _: str(folder))
    assert "-m venv --system-site-packages .venv && .venv/bin/python -m pip install x" in extras.install("x")


def test_a_frozen_program(environment, monkeypatch):
    environment("pip", on_path=["pip"])
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert extras.from_checkout(".[cli]") == (
        "from a checkout: add .[cli] to the environment that this program is built from, and build it again"
    )


def test_windows_knows_double_quotes_only(monkeypatch):
    monkeypatch.setattr(extras.os, "name", "nt")
    quoted = [extras._quoted(what) for what in (".[cli]", "x>=1", "x==1", "./here")]
    monkeypatch.undo()
    assert quoted == ['".[cli]"', '"x>=1"', '"x==1"', "./here"]


def test_messages_of_others(environment):
    folder = environment(on_path=["uv"])
    uv = f"uv pip install --python {folder}/bin/python"
    assert extras.reworded("it needs `pip install accelerate`.") == f"it needs `{uv} accelerate`."
    assert extras.reworded("run pip install sentencepiece protobuf") == f"run {uv} sentencepiece protobuf"
    assert extras.reworded("nothing to install") == "nothing to install"


def test_looking_for_pip_leaves_setuptools_as_it_is():
    code = (
        "import sys; from echo_embeddings import extras; assert extras.has_pip(); import setuptools, distutils; "
        "print('setuptools' in distutils.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_require():
    extras.require("json", "cli", "printing")
    with pytest.raises(
        ImportError, match=r"^printing needs no_such: from a checkout: .*install '\.\[cli\]'$"
    ) as raised:
        extras.require("no_such", "cli", "printing")
    assert raised.value.name == "no_such"


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")
def test_the_hint_works_in_an_environment_of_uv(tmp_path):
    """The command as it is said, run as it stands, in another folder than the environment's."""
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, tmp_path / "made"], check=True)
    python = tmp_path / "made/bin/python"
    source = tmp_path / "some_package"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        "[project]\nname = 'some-package'\nversion = '1'\n[tool.setuptools]\npy-modules=[]\n"
    )
    code = (
        "from importlib.util import module_from_spec as made, spec_from_file_location as spec; "
        f"found = spec('extras', {extras.__file__!r}); extras = made(found); found.loader.exec_module(extras); "
        "print(extras.install('.'))"
    )
    hint = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    subprocess.run(hint, shell=True, cwd=source, check=True)
    subprocess.run([python, "-c", "import importlib.metadata as m; m.version('some-package')"], check=True)
