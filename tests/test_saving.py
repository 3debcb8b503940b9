"""A saved folder is whole or the old one, says which config belongs to it, and never gives other vectors."""

import json
import shutil
import threading

import numpy as np
import pytest
from transformers import AutoModel, AutoTokenizer

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder, EchoError, ModelError
from echo_embeddings.data.files import locked
from echo_embeddings.errors import InputError
from tests import killing, processes
from tests.architectures import small_tokenizer, tiny

LATE = EchoConfig.preset("late-echo")
TEXTS = ["The ferry leaves at dawn.", "Bread is baked from flour."]
FIT = [f"{text} {more}" for text in TEXTS for more in ("Again.", "No.", "A ferry.", "An island, a loaf.")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny random model with a small tokenizer, not saved by us."""
    folder = tmp_path_factory.mktemp("plain")
    tiny("llama").save_pretrained(folder)
    small_tokenizer(TEXTS).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """The model as an encoder saved it, with transforms; and its vectors."""
    encoder = EchoEncoder(model, LATE, dtype="float32").fit_transforms(FIT)
    folder = tmp_path_factory.mktemp("saved") / "model"
    encoder.save_pretrained(folder)
    return folder, encoder.encode_documents(TEXTS)


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved[0], tmp_path / "model")


def vectors(folder):
    return EchoEncoder(folder).encode_documents(TEXTS)


# --- a mark, and a list of files --------------------------------------------------------------------------------------


def test_a_saved_folder_has_a_mark_and_gives_the_same_vectors(saved, folder):
    np.testing.assert_array_equal(vectors(folder), saved[1])
    mark = json.loads((folder / "config.json").read_text())["echo_embeddings"]
    assert mark == {"config": EchoConfig.load(folder).fingerprint()}


def test_a_marked_folder_without_its_config_is_refused(folder):
    (folder / "echo_config.json").unlink()
    with pytest.raises(ConfigError, match=r"has no echo_config.json, but its other files say that one"):
        vectors(folder)
    assert EchoEncoder(folder, LATE).encode_documents(TEXTS).shape == (2, 32), "a config that is given is enough"


def test_a_marked_folder_with_another_config_is_refused(folder):
    LATE.replace(max_length=7).save(folder)
    with pytest.raises(ConfigError, match=r"echo_config.json is not the one that was saved with this model"):
        vectors(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_files_of_another_model_are_refused(folder, name, tmp_path):
    other = tiny("llama")
    other.layers[0].mlp.up_proj.weight.data += 1
    other.save_pretrained(tmp_path / "other")
    small_tokenizer(["other words", "and more"]).save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / name, folder / name)
    with pytest.raises(ModelError, match=f"{name} is not the file that was saved with this model.*echo_files.json"):
        vectors(folder)
    (folder / "echo_files.json").unlink()  # as the message says
    assert vectors(folder).shape == (2, 32)


def test_a_model_that_is_trained_on_elsewhere_keeps_no_list(folder, tmp_path):
    AutoModel.from_pretrained(folder).save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigError, match="has no echo_config.json"):
        vectors(tmp_path / "other")
    for name in ("echo_config.json", "echo_transforms.safetensors"):
        shutil.copy(folder / name, tmp_path / "other")
    np.testing.assert_array_equal(vectors(tmp_path / "other"), vectors(folder))


def test_through_sentence_transformers_it_is_refused_too(saved, folder):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    echo = pytest.importorskip("sentence_transformers_echo")

    def loaded():
        return sentence_transformers.SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")

    np.testing.assert_allclose(loaded().encode(TEXTS), saved[1], atol=1e-4)
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text(pooling.read_text().replace("mean", "lasttoken"))
    for load in (loaded, lambda: echo.load(folder, device="cpu")):
        with pytest.raises(ModelError, match=r"1_Pooling/config.json is not the file that was saved"):
            load()
    (folder / "echo_config.json").unlink()
    for load in (loaded, lambda: echo.load(folder, device="cpu")):
        with pytest.raises(ConfigError, match="has no echo_config.json"):
            load()


# --- whole, or the old one --------------------------------------------------------------------------------------------


def test_other_peoples_files_are_kept_and_older_ones_of_a_model_are_not(model, tmp_path):
    folder = tmp_path / "model"
    (folder / "notes").mkdir(parents=True)
    theirs = ["README.md", "notes/a.txt", "results.csv", ".gitattributes"]
    ours = ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "vocab.json"]
    ours += ["adapter_config.json", "adapter_model.safetensors", "echo_transforms.safetensors", "2_Dense"]
    for name in theirs + ours:
        (folder / name).write_text("x")
    EchoEncoder(model, LATE, dtype="float32").save_pretrained(folder)
    assert all((folder / name).read_text() == "x" for name in theirs)
    left = {path.name for path in folder.iterdir()}
    assert left.isdisjoint(set(ours) - {"2_Dense"})
    assert vectors(folder).shape == (2, 32)


def test_a_second_writer_is_refused(model, tmp_path):
    encoder = EchoEncoder(model, LATE)
    _ = encoder.dimension
    with locked(tmp_path / "model"), pytest.raises(InputError, match="is being written by process"):
        encoder.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_two_threads_leave_one_whole_folder(model, tmp_path):
    encoders = [EchoEncoder(model, LATE.replace(max_length=length), dtype="float32") for length in (7, 8)]
    done = []

    def save(encoder):
        try:
            encoder.save_pretrained(tmp_path / "model")
            done.append(encoder.config.max_length)
        except InputError:
            pass

    for _ in range(3):
        threads = [threading.Thread(target=save, args=[encoder]) for encoder in encoders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert done
        assert EchoEncoder(tmp_path / "model").encode_documents(TEXTS).shape == (2, 32)


@pytest.mark.parametrize("where", [".", "../model"])
def test_the_working_folder_can_be_written(saved, tmp_path, monkeypatch, where):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_text("old")
    (folder / "mine.txt").write_text("mine")
    monkeypatch.chdir(folder)
    EchoEncoder(saved[0]).save_pretrained(where)
    assert (folder / "mine.txt").read_text() == "mine"
    assert not (folder / "pytorch_model.bin").exists()
    assert not list(folder.glob(".unfinished*"))
    np.testing.assert_array_equal(vectors(folder), saved[1])


# Loads a model once. Then it saves it in one child after another, each killed before another of its file operations,
# and copies what is left.
SAVE_AND_DIE = """
import os, shutil
from echo_embeddings import EchoConfig, EchoEncoder
encoder = EchoEncoder({model!r}, EchoConfig.preset("late-echo").replace(max_length=9), dtype="float32")
encoder.dimension
at = 1
while True:
    shutil.rmtree({root!r}, ignore_errors=True)
    shutil.copytree({old!r}, {root!r} + "/model")
    child = os.fork()
    if child == 0:
        exec({hook!r}.replace("__AT__", str(at)))
        encoder.save_pretrained({root!r} + "/model")
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    shutil.copytree({root!r} + "/model", {results!r} + f"/{{at}}")
    if status == 0:
        break
    assert os.WTERMSIG(status) == 9, status
    at += {every}
encoder.save_pretrained({root!r} + "/model")
"""


@pytest.mark.slow
def test_killed_at_each_operation_the_folder_is_the_old_or_the_new_one(saved, model, tmp_path):
    assert _killed(saved, model, tmp_path, every=1) > 40


def test_killed_at_some_operations_it_is_so_too(saved, model, tmp_path):
    assert _killed(saved, model, tmp_path, every=7) > 7


def _killed(saved, model, tmp_path, every):
    """Save over an older folder, killed at operations ``every`` apart; how often it was tried."""
    root, results = tmp_path / "root", tmp_path / "results"
    hook = killing._HOOK.replace("{at}", "__AT__").format(root=str(root), signal=9)
    names = {"model": str(model), "root": str(root), "results": str(results), "old": str(saved[0])}
    script = SAVE_AND_DIE.format(hook=hook, every=every, **names)
    done = processes.run(script)
    assert done.returncode == 0, done.stderr
    contents = [_content(path) for path in sorted(results.iterdir(), key=lambda path: int(path.name))]
    old, new = _content(saved[0]), contents[-1]
    assert old != new
    assert all(content in (old, new) for content in contents)
    assert contents[0] == old
    assert [path.name for path in root.iterdir()] == ["model"], "nothing is left over"
    assert EchoConfig.load(root / "model").max_length == 9
    assert vectors(root / "model").shape == (2, 32)
    return len(contents)


def _content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_folder_is_written_if_saving_fails(model, tmp_path):
    encoder = EchoEncoder(model, LATE, dtype="int8")
    with pytest.raises(EchoError, match="weights in int8 cannot be saved"):
        encoder.save_pretrained(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
