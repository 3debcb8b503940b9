"""Type checkers accept code as users write it: every public name, and the Python blocks of README and of the guides."""

import ast
import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USER_CODE = Path(__file__).with_name("user_code.py")
PACKAGES = [
    "echo_embeddings",
    "echo_embeddings.evaluation",
    "echo_embeddings.search",
    "langchain_echo_embeddings",
    "llama_index.embeddings.echo",
    "sentence_transformers_echo",
    "sentence_transformers_echo.training",
]
SOURCES = [ROOT / "src", *sorted(ROOT.glob("integrations/*/src"))]
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("integrations/*/README.md")),
    *(ROOT / "docs" / name for name in ("index.md", "get-started.md", "how-it-works.md")),
    *sorted(ROOT.glob("docs/guides/*.md")),
]


# Blocks bind names anew, and have functions without annotations. Options in the file keep mypy's cache valid.
LOOSE = "# mypy: allow-redefinition, allow-untyped-defs, allow-untyped-calls\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The file of user code, and the Python blocks of each page."""
    folder = tmp_path_factory.mktemp("code")
    shutil.copy(USER_CODE, folder)
    for page in PAGES:
        blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        name = re.sub(r"\W+", "_", str(page.relative_to(ROOT)))
        (folder / f"{name}.py").write_text("\n".join([LOOSE, *blocks]), encoding="utf-8")
    return folder


def test_the_file_has_every_public_name():
    names = {node.id for node in ast.walk(ast.parse(USER_CODE.read_text())) if isinstance(node, ast.Name)}
    for package in PACKAGES:
        assert set(importlib.import_module(package).__all__) <= names, package


def test_the_arguments_that_type_checkers_see_are_the_fields():
    made = ast.parse((ROOT / "integrations/langchain/src/langchain_echo_embeddings/embeddings.py").read_text())
    shown = next(node for node in ast.walk(made) if getattr(node, "name", "") == "__init__")
    fields = importlib.import_module("langchain_echo_embeddings").EchoEmbeddings.model_fields
    assert {argument.arg for argument in shown.args.kwonlyargs} == {*fields, "model"}


def mypy(*files):
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy():
    mypy(USER_CODE)


@pytest.mark.slow
def test_mypy_on_the_pages(folder):
    mypy(*sorted(folder.glob("*.py")))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is not installed")
def test_pyright(folder):
    settings = {"include": ["."], "extraPaths": [str(ROOT), *map(str, SOURCES)], "typeCheckingMode": "standard"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "-p", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
