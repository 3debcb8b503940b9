"""Every Python block of the README runs, in order, in one process: what a newcomer copies works."""

import re
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    # Blocks that need a hub say so in a comment before them.
    return [match[1] for match in BLOCK.finditer(text) if not text[: match.start()].rstrip().endswith("<!-- hub -->")]


def test_the_readme_has_blocks():
    assert len(blocks()) >= 3


def test_the_readme_runs(builtin_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "ferry.md").write_text("# Ferry\n\nThe ferry leaves the island at dawn.\n")
    namespace = {"__name__": "readme"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, block in enumerate(blocks()):
            try:
                exec(compile(block, f"README block {number}", "exec"), namespace)
            except Exception as error:  # noqa: BLE001
                pytest.fail(f"block {number} of the README fails with {error!r}:\n{block}")
    assert capsys.readouterr().out


def test_links_to_files_lead_somewhere():
    for source in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", source.read_text(encoding="utf-8")):
            assert (source.parent / target).exists(), f"{source.name} links to {target}"
