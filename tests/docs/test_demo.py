"""examples/demo.py, apart from what it shows: how it ends, where its index goes, and that it is seen to be alive."""

import importlib.util
import time
from pathlib import Path

import pytest

from echo_embeddings import ModelUnavailableError
from tests.search.fake import PASSAGES, FakeEncoder

ROOT = Path(__file__).parents[2]


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
