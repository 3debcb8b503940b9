"""What the package promises about itself: its names, its imports, its extras, its size."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

import echo_embeddings
from tests import processes

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INTEGRATIONS = sorted((ROOT / "integrations").glob("*/pyproject.toml"))
_LISTED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
TRACKED = [ROOT / name for name in _LISTED.split()]


def in_a_fresh_process(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_exported_names():
    assert echo_embeddings.__all__ == sorted(
        [
            "ConfigError",
            "DimensionsWarning",
            "EchoConfig",
            "EchoEncoder",
            "EchoError",
            "EmbedFilter",
            "Embedder",
            "EncoderOptions",
            "LeftOutWarning",
            "Lexical",
            "ModelError",
            "ModelUnavailableError",
            "NumericalError",
            "Project",
            "Standardize",
            "Template",
            "TokenEmbeddings",
            "Truncate",
            "TruncationError",
            "TruncationWarning",
            "Tuned",
            "WindowWarning",
            "WorkerError",
            "embed_table",
            "tune",
        ]
    )
    for name in echo_embeddings.__all__:
        assert getattr(echo_embeddings, name).__doc__


def test_importing_the_core_loads_nothing_heavy_and_no_framework():
    loaded = in_a_fresh_process("import sys, echo_embeddings; print(*sorted({m.split('.')[0] for m in sys.modules}))")
    frameworks = {"langchain_core", "llama_index", "sentence_transformers", "faiss", "mteb", "ray"}
    heavy = {"torch", "transformers", "tokenizers", "pyarrow", "typer", "rich", "scipy", "peft"}
    assert not (frameworks | heavy) & set(loaded.split())


@pytest.mark.parametrize("room", ["text", "data", "vectors", "config"])
def test_rooms_that_know_no_model_load_no_torch(room):
    """Every module of the room on its own, in a fresh process."""
    package = ROOT / "src" / "echo_embeddings"
    modules = [".".join(path.relative_to(ROOT / "src").with_suffix("").parts) for path in (package / room).glob("*.py")]
    assert len(modules) > 3
    loaded = in_a_fresh_process(f"import sys, {', '.join(modules)}; print(*sys.modules)")
    assert not {"torch", "transformers"} & set(loaded.split())


def test_embedding_loads_no_framework(builtin_folder):
    code = (
        "import sys; from echo_embeddings import EchoEncoder; EchoEncoder().encode_documents('a');"
        "print(*{m.split('.')[0] for m in sys.modules})"
    )
    done = processes.run(code)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert {"torch", "echo_embeddings"} < set(loaded)
    assert not {"langchain_core", "llama_index", "sentence_transformers", "faiss", "mteb", "ray", "typer"} & set(loaded)


def test_every_extra_that_a_message_names_exists():
    named = {
        extra
        for path in SOURCES
        for found in re.findall(r"""["']\.\[([a-z,]+)\]|require\("\w+", "(\w+)\"""", path.read_text())
        for extra in "".join(found).split(",")
    }
    assert named <= set(PROJECT["optional-dependencies"])
    assert {"peft", "faiss", "cli"} <= named


def test_nothing_tells_to_install_by_a_name_that_no_index_has():
    """Until there is a release, hints, pages and examples install from a checkout."""
    projects = [
        tomllib.loads(path.read_text())["project"]["name"] for path in (ROOT / "integrations").glob("*/pyproject.toml")
    ]
    ours = "|".join(("echo-embeddings", *projects))
    by_name = re.compile(rf"(pip|uv|uv tool|pipx) (install|add)\b[^`#\n]*[ '\"]({ours})(?![\w/-])")
    for path in TRACKED:
        if path.suffix in {".py", ".toml", ".md", ".yaml"} and "tests" not in path.parts:
            assert not (found := by_name.search(path.read_text(encoding="utf-8"))), f"{path}: {found[0]}"


def test_hints_come_from_one_place():
    """Only ``extras`` knows which command installs into this environment."""
    for path in [*SOURCES, *(ROOT / "integrations").rglob("*.py")]:
        if path.name not in {"extras.py", "card.py", "saving.py"}:  # cards and saved folders are read elsewhere
            assert "pip install" not in path.read_text(encoding="utf-8"), path


def test_the_version_is_one():
    newest = re.search(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert PROJECT["version"] == echo_embeddings.__version__ == newest[1]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_stay_small(path):
    """A module is one thing that has a name, however long; a function is one step."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            assert node.end_lineno - first.lineno < 40, f"{node.name} has too long a body"


def test_every_module_says_what_it_is():
    for path in SOURCES:
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_no_machine_or_index_is_named():
    pattern = re.compile(r"(index-url|extra-index|find-links|trusted-host)[ =]", re.IGNORECASE)
    for path in TRACKED:
        if path.suffix in {".py", ".toml", ".txt", ".md", ".yaml"} and path != Path(__file__):
            assert not pattern.search(path.read_text(encoding="utf-8")), path
