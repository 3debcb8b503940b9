"""Every file in examples/ runs as it stands, on the built-in model, and prints something."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from echo_embeddings import ModelUnavailableError
from tests.search.fake import PASSAGES, FakeEncoder

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

# What makes an example quick enough for a test, and a line that its output must hold.
ARGUMENTS = {"demo.py": ["--passages", "40", "--indexes", "."], "search_files.py": ["."], "fine_tune.py": ["4"]}
EXPECTED = {
    "demo.py": "What to try next",
    "fine_tune.py": "questions not learned from",
    "quickstart.py": "Ferries to the island run from April to October",
    "search_files.py": "LICENSE, paragraph",
    "stdlib_passages.py": "passages from",
    "faiss_exact.py": "1024 dimensions",
    "faiss_hnsw.py": "recall@10",
    "faiss_ivfpq.py": "sorted exactly",
    "faiss_add_later.py": "second run: 300 passages",
    "faiss_metadata_filter.py": "'module': 'zipfile'",
    "faiss_roles.py": "nDCG@10",
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(path, builtin_folder, tmp_path):
    env = os.environ | {"HF_HUB_OFFLINE": "1", "TMPDIR": str(tmp_path), "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
    (tmp_path / "LICENSE").write_text((ROOT / "LICENSE").read_text()[:4000])
    command = [sys.executable, "-W", "error::UserWarning", str(path), *ARGUMENTS.get(path.name, [])]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert EXPECTED.get(path.name, "") in done.stdout


@pytest.fixture
def demo():
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "\nStopped. To go on: make demo\n"),
        (ModelUnavailableError("no model: install it"), 1, "\nThe demo cannot go on: no model: install it\n"),
    ],
)
def test_the_demo_ends_in_one_line(demo, monkeypatch, capsys, error, status, said):
    def ended():
        raise error

    monkeypatch.setattr(demo, "main", ended)
    assert demo.run() == status
    assert capsys.readouterr().out == said


def test_the_demo_goes_on_without_a_place_for_its_index(demo, tmp_path, capsys):
    class Encoder(FakeEncoder):
        def fingerprint(self):
            return ""

    (tmp_path / "file").write_text("no folder")
    index, folder = demo.kept(tmp_path / "file", PASSAGES, Encoder())
    assert (len(index), folder) == (3, None)
    assert "The index cannot be kept for the next start (" in capsys.readouterr().out
    _, folder = demo.kept(tmp_path, PASSAGES, Encoder())
    assert demo.kept(tmp_path, PASSAGES, Encoder())[1] == folder


def test_the_demo_gives_signs_of_life(demo, capsys):
    with demo.signs_of_life("Still loading", 0.05):
        time.sleep(0.3)
    assert "   Still loading, 0 seconds so far\n" in capsys.readouterr().out
