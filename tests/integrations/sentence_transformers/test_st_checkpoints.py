"""Training that dies at any moment goes on from its last whole checkpoint, never from an unfinished one."""

import json
import os
import shutil
import signal
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from echo_embeddings import ConfigError
from echo_embeddings.data.files import locked
from echo_embeddings.errors import InputError
from sentence_transformers_echo.training import Data, Lora, Recipe, checkpoints, job, student, teacher, train
from sentence_transformers_echo.training.data import read
from tests import killing
from tests.architectures import tiny

PAIRS = [(f"question {word}?", f"the answer to {word}") for word in ("one", "two", "three", "four", "five", "six")]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    path.write_text("".join(json.dumps({"anchor": a, "positive": p}) + "\n" for a, p in PAIRS))
    return path


@pytest.fixture(scope="module")
def base(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny("llama", vocab_size=len(tokenizer)).base_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def finished(base, pairs, tmp_path_factory):
    """The output of a training run with the checkpoints of its steps 2 and 4."""
    output = tmp_path_factory.mktemp("finished") / "out"
    train(recipe(base, pairs, output), show_progress=False)
    return output


def recipe(base, pairs, output, **changes):
    fields = {"config": "late-echo", "steps": 4, "batch_size": 3, "save_every": 2, "lora": Lora(rank=2)} | changes
    return Recipe(data=(Data(str(pairs)),), output=str(output), model=str(base), **fields)


def script(base, pairs, output):
    return (
        "from sentence_transformers_echo.training import Data, Lora, Recipe, train\n"
        f"train(Recipe(data=(Data({str(pairs)!r}),), output={str(output)!r}, model={str(base)!r}, config='late-echo', "
        "steps=4, batch_size=3, save_every=2, lora=Lora(rank=2)), resume=True, show_progress=False)"
    )


def weights(folder):
    return load_file(folder / "adapter_model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


DAMAGE = {
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "flipped": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_checkpoint_with_any_file_damaged_is_not_taken(how, finished, tmp_path, caplog):
    names = [path.name for path in (finished / "checkpoints" / "checkpoint-4").iterdir() if path.is_file()]
    assert {"optimizer.pt", "trainer_state.json", "digests.json", "rng_state.pth"} <= set(names)
    for name in names:
        copy = tmp_path / name
        shutil.copytree(finished / "checkpoints", copy)
        assert checkpoints.last(copy) == copy / "checkpoint-4"
        DAMAGE[how](copy / "checkpoint-4" / name)
        assert checkpoints.last(copy) == copy / "checkpoint-2"
        assert not (copy / "checkpoint-4").exists()
        assert "checkpoint-4 is not whole and is removed; training goes on from checkpoint-2" in caplog.text


def test_resumed_behind_an_unfinished_checkpoint_it_gives_the_same_weights(base, pairs, finished, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(finished, output)
    (output / "adapter_model.safetensors").unlink()
    DAMAGE["half"](output / "checkpoints" / "checkpoint-4" / "optimizer.pt")
    (output / "checkpoints" / ".checkpoint-6.abcd.part").mkdir()
    (output / "notes.txt").write_text("mine")
    train(recipe(base, pairs, output), resume=True, show_progress=False)
    assert same(weights(output), weights(finished))
    assert (output / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in (output / "checkpoints").iterdir()) == ["checkpoint-2", "checkpoint-4"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_a_whole_checkpoint_it_begins_anew(base, pairs, finished, tmp_path, caplog):
    for number in (2, 4):
        (tmp_path / "out" / "checkpoints" / f"checkpoint-{number}").mkdir(parents=True)
    train(recipe(base, pairs, tmp_path / "out"), resume=True, show_progress=False)
    assert "checkpoint-4 is not whole and is removed; training begins anew" in caplog.text
    assert same(weights(tmp_path / "out"), weights(finished))


def test_two_runs_do_not_train_into_one_folder(base, pairs, tmp_path):
    job = tmp_path / "out.training"
    with locked(job), pytest.raises(InputError, match=r"out\.training is being written by process \d+"):
        train(recipe(base, pairs, tmp_path / "out"), show_progress=False)


def _killed(at, root, work):
    """Do some work in a forked process that is killed before its operation ``at``; whether it came to its end."""
    if (child := os.fork()) == 0:
        exec(killing._HOOK.format(root=str(root), at=at, signal=int(signal.SIGKILL)), {})
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_killed_at_any_operation_of_a_checkpoint_there_is_a_whole_one(tmp_path):
    def write(number):
        with checkpoints.written(tmp_path / f"checkpoint-{number}", keep=2) as unfinished:
            for name in ("weights", "optimizer", "state"):
                (unfinished / name).write_text(f"{name} {number}")

    write(1)
    write(2)
    at, ended = 0, False
    while not ended:
        at += 1
        ended = _killed(at, tmp_path, lambda: write(3))
        found = checkpoints.last(tmp_path)
        number = found.name[-1]
        assert number == "3" or (number == "2" and not ended)
        assert (found / "optimizer").read_text() == f"optimizer {number}"
        assert {path.name for path in tmp_path.iterdir()} <= {f"checkpoint-{i}" for i in (1, 2, 3)}
        shutil.rmtree(tmp_path / "checkpoint-3", ignore_errors=True)
        write(1)
    assert at > 10


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_at_every_moment_of_a_run_its_last_whole_checkpoint_is_found(base, pairs, finished, tmp_path):
    """The whole program once: what stands in its output folder before each of its file operations; about a minute."""
    output, before, unfinished, seen = tmp_path / "out", 0, 0, {}
    for moment in killing.moments(script(base, pairs, output), output, tmp_path / "moments"):
        had = {path.name for path in (moment / "checkpoints").glob("*")}
        found = checkpoints.last(moment / "checkpoints")
        left = {path.name for path in (moment / "checkpoints").glob("*")}
        step = 0 if found is None else int(found.name.rpartition("-")[2])
        assert step >= before  # what was whole once is not lost while the next is written
        assert left <= {"checkpoint-2", "checkpoint-4"}
        if found is not None:
            assert content(found) == seen.setdefault(step, content(found))
        if (moment / "adapter_config.json").exists():
            assert same(weights(moment), weights(finished))
        before, unfinished = step, unfinished + (left < had)
    assert set(seen) == {2, 4}
    assert unfinished > 10
    assert same(weights(output), weights(finished))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 6}, "settings, data or weights; train into another output folder, .*steps was 4, now 6"),
        ({"learning_rate": 1e-3}, "learning_rate was 0.0003, now 0.001"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"lora": Lora(rank=2, alpha=8)}, "adapters; train into another output folder.*lora.alpha was 32, now 8"),
        ({"config": "echo"}, "config was "),
    ],
    ids=["steps", "learning_rate", "seed", "lora", "config"],
)
def test_a_checkpoint_of_another_recipe_is_refused(base, pairs, finished, tmp_path, changes, message):
    shutil.copytree(finished, tmp_path / "out")
    with pytest.raises(ConfigError, match=f"checkpoint-4 was written by a recipe with other .*{message}"):
        train(recipe(base, pairs, tmp_path / "out", **changes), resume=True, show_progress=False)
    assert content(tmp_path / "out") == content(finished)


def test_a_checkpoint_of_other_data_or_weights_is_refused(base, pairs, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "out")
    (tmp_path / "pairs.jsonl").write_text(pairs.read_text().replace("answer to three", "answer to four"))
    with pytest.raises(ConfigError, match="data 'pairs' was contrastive, 6 rows .*, now contrastive, 6 rows "):
        train(recipe(base, tmp_path / "pairs.jsonl", tmp_path / "out"), resume=True, show_progress=False)
    other = shutil.copytree(base, tmp_path / "base")
    file = other / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-64] + bytes(64))
    with pytest.raises(ConfigError, match="weights of the model was .*, now "):
        train(recipe(other, pairs, tmp_path / "out"), resume=True, show_progress=False)


def test_what_does_not_change_what_is_learned_may_change(base, pairs, finished, tmp_path):
    def job_of(made):
        return job.job_of(made, {"pairs": read(made.data[0], tmp_path, made.seed)}, student.weights_of(made))

    ours = job_of(recipe(base, pairs, finished))
    copy, moved = shutil.copytree(base, tmp_path / "base"), shutil.copy(pairs, tmp_path / "pairs.jsonl")
    free = {"save_every": 3, "mini_batch_tokens": 99, "evaluate": ("dev.tsv",), "compiled": True}
    assert job_of(recipe(copy, moved, tmp_path, lora=Lora(rank=2, alpha=32.0), **free)) == ours
    start = shutil.copytree(finished, tmp_path / "start")
    on = recipe(base, pairs, tmp_path, lora=Lora(rank=2, start=str(start)))
    before = job_of(on)
    assert job_of(on.replace(lora=Lora(rank=2, start=str(finished)))) == before
    DAMAGE["flipped"](start / "adapter_model.safetensors")
    assert job_of(on) != before


@pytest.mark.slow
def test_training_killed_at_any_operation_goes_on_to_the_same_weights(base, pairs, finished, tmp_path):
    """The whole program, at each fourth of its operations from the first checkpoint on; about half an hour."""
    output = tmp_path / "out"
    program = script(base, pairs, output)
    for _ in killing.at_each(program, output, every=4):
        last = checkpoints.last(output / "checkpoints")
        assert last is None or last.name in ("checkpoint-2", "checkpoint-4")
        done = killing.run(program, output)
        assert done.returncode == 0, done.stderr
        assert same(weights(output), weights(finished))
        shutil.rmtree(output)


def test_a_damaged_store_of_the_teachers_vectors_is_computed_again(tmp_path, monkeypatch):
    class Teacher:
        max_seq_length, calls = 9, 0

        def encode(self, texts, **_):
            Teacher.calls += 1
            return np.eye(len(texts), 4, dtype=np.float32)

    monkeypatch.setattr(teacher, "load", lambda name: Teacher())
    texts = ["a", "b", "c"]
    wanted = teacher.targets("t", texts, 2, tmp_path, show_progress=False)
    (stored,) = tmp_path.iterdir()
    for damage in (None, *(DAMAGE[how] for how in ("half", "empty", "gone"))):
        if damage is not None:
            damage(stored)
        np.testing.assert_array_equal(teacher.targets("t", texts, 2, tmp_path, show_progress=False), wanted)
    assert Teacher.calls == 4
