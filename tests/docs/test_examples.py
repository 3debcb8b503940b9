"""Every file in examples/ runs as it stands, on the built-in model, and prints something."""

import os
from pathlib import Path

import pytest

from tests import processes

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


# As python -W error::UserWarning PATH does.
SCRIPT = """
import os, runpy, sys, warnings
warnings.filterwarnings("error", category=UserWarning)
del sys.argv[0]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(path, builtin_folder, tmp_path):
    env = os.environ | {"HF_HUB_OFFLINE": "1", "TMPDIR": str(tmp_path), "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
    (tmp_path / "LICENSE").write_text((ROOT / "LICENSE").read_text()[:4000])
    done = processes.run(SCRIPT, path, *ARGUMENTS.get(path.name, []), cwd=tmp_path, env=env, timeout=400)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert EXPECTED.get(path.name, "") in done.stdout
