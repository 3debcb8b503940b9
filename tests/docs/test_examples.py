"""Every file in examples/ runs on the built-in model and prints something: on few texts, and, slowly, as it stands."""

import os
import runpy
import sys
import tempfile
import warnings
from pathlib import Path

import pytest

from tests import processes

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

# Arguments, where an example would else look at the whole repository or train for long.
ARGUMENTS = {"demo.py": ["--passages", "20", "--indexes", "."], "search_files.py": ["."], "fine_tune.py": ["4"]}
# What makes an example quick: fewer and shorter texts, shorter answers, and float32, which every processor multiplies.
# Everything else runs as it stands.
MODULES, ENCODER, SHORT = 'glob("[a-z]*.py")', "EchoEncoder()", 'EchoEncoder(max_length=12, on_truncate="ignore")'
BOTH_JOBS = {
    MODULES: 'glob("st*.py")',
    "docstring[:400]": "docstring[:80]",
    "AutoModelForCausalLM.from_pretrained(builtin.folder())": (
        'AutoModelForCausalLM.from_pretrained(builtin.folder(), dtype="float32")'
    ),
    "max_new_tokens=50": "max_new_tokens=4",
}
FEWER = {
    "demo.py": {},
    "faiss_add_later.py": {
        "load_docs(300)": "load_docs(30)",
        "[:250]": "[:25]",
        "[250:]": "[25:]",
        "- 250": "- 25",
        ENCODER: SHORT,
    },
    "faiss_exact.py": {"load_docs(400)": "load_docs(30)", ENCODER: SHORT},
    "faiss_hnsw.py": {"load_docs(400)": "load_docs(30)", ENCODER: SHORT},
    "faiss_ivfpq.py": {"load_docs(400)": "load_docs(80)", ENCODER: SHORT},
    "faiss_metadata_filter.py": {"load_docs(300)": "load_docs(80)", ENCODER: SHORT},
    "faiss_roles.py": {"load_docs(120": "load_docs(12", "doc.rest for": "doc.rest[:40] for"},
    "fine_tune.py": {
        "datetime fractions glob heapq json locale random shutil statistics string textwrap zipfile": "heapq",
        "batch_size=32": "batch_size=3",
    },
    "langchain_persist.py": {
        MODULES: 'glob("st*.py")',
        "docstring[:400]": "docstring[:80]",
        "subprocess.run([sys.executable, __file__, folder], check=True)": "ask(folder, EchoEmbeddings())",
    },
    "langchain_rag.py": BOTH_JOBS,
    "llama_index_rag.py": BOTH_JOBS,
    "quickstart.py": {},
    "search_files.py": {},
    "stdlib_passages.py": {},
}
# A line that the output must hold.
EXPECTED = {
    "demo.py": "What to try next",
    "fine_tune.py": "questions not learned from",
    "quickstart.py": "Ferries to the island run from April to October",
    "search_files.py": "LICENSE, paragraph",
    "stdlib_passages.py": "passages from",
    "faiss_exact.py": "1024 dimensions",
    "faiss_hnsw.py": "recall@10",
    "faiss_ivfpq.py": "sorted exactly",
    "faiss_add_later.py": "0 passages, its vector is the new one (1.00)",
    "faiss_metadata_filter.py": "'module': 'zipfile'",
    "faiss_roles.py": "nDCG@10",
}


# They stand for all in a process of their own, as users start them. The others run in this one, which has the weights.
STARTED = {"demo.py", "quickstart.py"}
# As python -W error::UserWarning PATH does.
SCRIPT = """
import os, runpy, sys, warnings
warnings.filterwarnings("error", category=UserWarning)
del sys.argv[0]
sys.path.insert(0, {folder!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def started(path, tmp_path):
    """What an example prints in a process of its own."""
    env = os.environ | {"HF_HUB_OFFLINE": "1", "TMPDIR": str(tmp_path), "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
    script = SCRIPT.format(folder=str(ROOT / "examples"))
    done = processes.run(script, path, *ARGUMENTS.get(path.name, []), cwd=tmp_path, env=env, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_here(path, monkeypatch, capsys):
    """What it prints in this process."""
    monkeypatch.setattr(sys, "argv", [str(path), *ARGUMENTS.get(path.name, [])])
    monkeypatch.syspath_prepend(ROOT / "examples")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.filterwarnings("error", category=UserWarning)
        runpy.run_path(str(path), run_name="__main__")
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder to run in, with a text to search."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "LICENSE").write_text((ROOT / "LICENSE").read_text()[:1500])


def require_output(name, printed):
    assert printed.strip()
    assert EXPECTED.get(name, "") in printed


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, fewer in FEWER.items() if fewer])
def test_an_example_runs_as_it_stands(name, builtin_folder, tmp_path):
    require_output(name, started(ROOT / "examples" / name, tmp_path))


@pytest.mark.parametrize("name", [path.name for path in EXAMPLES])
def test_an_example_runs_on_fewer_texts(name, builtin_folder, tmp_path, monkeypatch, capsys):
    code = (ROOT / "examples" / name).read_text(encoding="utf-8")
    for whole, part in FEWER[name].items():
        assert whole in code, f"{name}: {whole} is not in it any more"
        code = code.replace(whole, part)
    (tmp_path / "examples").mkdir()
    path = tmp_path / "examples" / name
    path.write_text(code, encoding="utf-8")
    require_output(name, started(path, tmp_path) if name in STARTED else run_here(path, monkeypatch, capsys))
