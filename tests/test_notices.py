"""What is shown while a model is loaded, saved or fetched: nothing where nobody watches, unless it is asked for."""

import io
import logging
import subprocess
import sys
import warnings

import pytest
from transformers import modeling_gguf_pytorch_utils
from transformers.utils import logging as transformers_logging

from echo_embeddings import notices
from echo_embeddings.engine.progress import progress
from tests import processes
from tests.architectures import tiny

log = logging.getLogger("echo_embeddings.test")

SCRIPT = """
import sys, os
if {terminal}:
    sys.stderr.isatty = lambda: True
from echo_embeddings import EchoEncoder
encoder = EchoEncoder({model!r}, config={config!r}, dtype="float32")
encoder.encode_documents(["a", "b"], show_progress={show})
encoder.save_pretrained({saved!r})
"""


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(scope="module")
def saved(tmp_path_factory, builtin_folder):
    """A tiny model in a folder, with the tokenizer of the built-in one."""
    import shutil

    folder = tmp_path_factory.mktemp("tiny")
    tiny("llama", vocab_size=49152).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(builtin_folder / name, folder)
    return folder


def script(saved, tmp_path, *, terminal=False, show=False):
    return SCRIPT.format(terminal=terminal, model=str(saved), config="echo", show=show, saved=str(tmp_path / "out"))


@pytest.fixture
def stderr_of(saved, tmp_path, monkeypatch):
    def stderr_of(switch=None, **how):
        if switch is not None:
            monkeypatch.setenv(notices.VARIABLE, switch)
        done = processes.run(script(saved, tmp_path, **how))
        assert done.returncode == 0, done.stderr
        return done.stderr

    return stderr_of


def test_off_a_terminal_loading_and_saving_are_quiet(saved, tmp_path):
    """From the first import on."""
    command = [sys.executable, "-c", script(saved, tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == ""


def test_on_a_terminal_they_are_shown(stderr_of):
    said = stderr_of(terminal=True)
    assert "Loading weights" in said
    assert "Writing model shards" in said


def test_the_switch_shows_everything_or_nothing(stderr_of):
    said = stderr_of("1", show=True)
    assert "Loading weights" in said
    assert "embedding: 100%" in said
    assert stderr_of("0", terminal=True, show=True) == ""


def test_a_line_is_shown_to_who_watches_and_logged_else(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    notices.say(log, "fetching")
    assert screen.getvalue() == "echo-embeddings: fetching\n"
    assert not caplog.records
    for nobody in (io.StringIO(), None):
        monkeypatch.setattr(sys, "stderr", nobody)
        notices.say(log, "fetching")
    assert [record.getMessage() for record in caplog.records] == ["fetching", "fetching"]
    monkeypatch.setitem(sys.modules, "ipykernel", object())  # a notebook: stderr is no terminal, and somebody watches
    monkeypatch.setattr(sys, "stderr", notebook := io.StringIO())
    notices.say(log, "fetching")
    assert notebook.getvalue() == "echo-embeddings: fetching\n"


@pytest.mark.parametrize(("value", "watched"), [("1", True), ("on", True), ("0", False), ("FALSE", False)])
def test_the_switch(monkeypatch, value, watched):
    monkeypatch.setenv(notices.VARIABLE, value)
    assert notices.is_watched() is watched
    assert notices.allows_bars() is watched


def test_an_unknown_switch(monkeypatch):
    monkeypatch.setenv(notices.VARIABLE, "maybe")
    with pytest.raises(ValueError, match="ECHO_EMBEDDINGS_PROGRESS='maybe' is unknown; set it to 1 .*, 0 "):
        notices.is_watched()


def test_the_switch_hides_bars_that_were_asked_for(monkeypatch, capsys):
    monkeypatch.setenv(notices.VARIABLE, "0")
    with progress(3, show=True) as advance:
        advance(3)
    assert capsys.readouterr().err == ""


def test_bars_of_transformers_are_as_before_afterwards(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    transformers_logging.enable_progress_bar()  # a command that ran in this process may have switched them off
    with notices.loading_bars(), notices.loading_bars():
        assert not transformers_logging.is_progress_bar_enabled()
    assert transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with notices.loading_bars():
            pass
        assert not transformers_logging.is_progress_bar_enabled(), "what the user switched off stays off"
    finally:
        transformers_logging.enable_progress_bar()


def test_the_bar_of_a_gguf_file_is_hidden_too(monkeypatch, capsys):
    """transformers makes it without asking whether bars are wanted."""
    monkeypatch.setenv(notices.VARIABLE, "0")
    with notices.loading_bars():
        assert list(modeling_gguf_pytorch_utils.tqdm([1, 2])) == [1, 2]
    assert capsys.readouterr().err == ""
    assert list(modeling_gguf_pytorch_utils.tqdm([1, 2])) == [1, 2]
    assert "2/2" in capsys.readouterr().err


def test_nothing_is_said_about_the_switch_of_the_hub(monkeypatch):
    from huggingface_hub.utils import tqdm as hub_bars

    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(hub_bars, "HF_HUB_DISABLE_PROGRESS_BARS", True, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with notices.loading_bars():
            pass
