"""Checkpoints of an unfinished job. No model."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from echo_embeddings.data.checkpoints import Checkpoint, Checkpoints
from echo_embeddings.errors import InputError, OutputError

MANIFEST = {
    "column": "text",
    "role": "document",
    "model": "m",
    "config": "c",
    "precision": "float32",
    "computed_in": "cpu torch.float32",
    "encoder": "e",
    "checkpoint_rows": 4,
    "version": "0",
}
VECTORS = np.arange(20, dtype=np.float32).reshape(10, 2)


def opened(tmp_path, manifest=MANIFEST, restart=False):
    return Checkpoints.open(tmp_path / "p", manifest, restart=restart)


def save(checkpoints, number, columns=b""):
    vectors = VECTORS[4 * number : 4 * number + 4]
    checkpoints.save(number, Checkpoint(len(vectors), f"sha {number}", truncated=(number, 2)), vectors, columns)


def test_what_is_saved_is_read_in_order(tmp_path):
    checkpoints = opened(tmp_path)
    for number in (0, 2):
        save(checkpoints, number)
    assert (checkpoints.rows, checkpoints.end, checkpoints.get(1)) == (6, 3, None)
    save(checkpoints, 1, b"columns")
    again = opened(tmp_path)
    assert again.get(1) == Checkpoint(4, "sha 1", None, (1, 2))
    read = list(again.read())
    np.testing.assert_array_equal(np.concatenate([vectors for vectors, _ in read]), VECTORS)
    assert [columns for _, columns in read] == [b"", b"columns", b""]
    again.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("model", "--model"),
        ("config", r"the configuration \(--config, --max-length\)"),
        ("checkpoint_rows", "--checkpoint-rows"),
        ("encoder", "the adapter or model_kwargs"),
    ],
)
def test_an_unfinished_run_of_something_else_is_not_mixed_in(tmp_path, key, named):
    save(opened(tmp_path), 0)
    other = MANIFEST | {key: "other"}
    message = f"holds an unfinished run of something else: {named} changed since.*add --restart to begin anew"
    with pytest.raises(InputError, match=message):
        opened(tmp_path, other)
    assert opened(tmp_path, other, restart=True).rows == 0


def test_a_run_that_saved_nothing_is_forgotten(tmp_path):
    opened(tmp_path)
    other = MANIFEST | {"column": "body"}
    save(opened(tmp_path, other), 0)
    assert opened(tmp_path, other).rows == 4


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "thesis.tex").touch()
    with pytest.raises(InputError, match="is in the way and was not made by embed"):
        opened(tmp_path)


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path, at):
    content = bytearray(path.read_bytes())
    content[at // 8] ^= 1 << at % 8
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [half, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"PK")])
def test_a_damaged_checkpoint_does_not_count(tmp_path, damage):
    checkpoints = opened(tmp_path)
    for number in (0, 1):
        save(checkpoints, number)
    damage(tmp_path / "p" / "000000.npz")
    again = opened(tmp_path)
    assert again.get(0) is None
    assert again.get(1) == Checkpoint(4, "sha 1", None, (1, 2))
    assert (again.rows, again.end) == (4, 2)
    with pytest.raises(InputError, match=r"000000\.npz was damaged after it was saved; run the same again"):
        list(again.read())


def test_no_altered_bit_gives_other_vectors_or_another_error(tmp_path):
    checkpoints = opened(tmp_path)
    save(checkpoints, 0, b"columns")
    path = tmp_path / "p" / "000000.npz"
    whole = path.read_bytes()
    step = len(whole) * 8 // 1500
    for at in range(0, len(whole) * 8, step):
        flipped(path, at)
        if (known := checkpoints.get(0)) is not None:  # a bit that means nothing, such as of a time of day
            assert known == Checkpoint(4, "sha 0", None, (0, 2))
            [(vectors, columns)] = checkpoints.read()
            np.testing.assert_array_equal(vectors, VECTORS[:4])
            assert columns == b"columns"
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("rows", "vectors"), [(4, VECTORS[:3]), (4, np.full((4, 2), np.nan, np.float32)), (2, VECTORS[:4])]
)
def test_a_checkpoint_with_other_rows_than_it_says_or_not_a_number_does_not_count(tmp_path, rows, vectors):
    checkpoints = opened(tmp_path)
    checkpoints.save(0, Checkpoint(rows, "sha"), vectors)
    assert checkpoints.get(0) is None


def test_a_checkpoint_counts_for_its_own_place_and_job_only(tmp_path):
    checkpoints = opened(tmp_path)
    for number in (0, 1):
        save(checkpoints, number)
    other = Checkpoints.open(tmp_path / "q", MANIFEST | {"model": "other"}, restart=False)
    save(other, 2)
    first, second, third = (tmp_path / "p" / f"{number:06d}.npz" for number in range(3))
    (tmp_path / "q" / third.name).rename(third)
    second.write_bytes(first.read_bytes())
    assert [checkpoints.get(number) is None for number in range(3)] == [False, True, True]
    assert (checkpoints.rows, checkpoints.end) == (4, 1)


@pytest.mark.parametrize("damage", [half, lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_a_damaged_manifest_does_not_cost_the_vectors(tmp_path, damage):
    save(opened(tmp_path), 0)
    damage(tmp_path / "p" / "manifest.json")
    other = MANIFEST | {"model": "other"}
    with pytest.raises(InputError, match=r"manifest\.json is damaged, and not all that is saved is of this job"):
        opened(tmp_path, other)
    assert opened(tmp_path).rows == 4
    damage(tmp_path / "p" / "manifest.json")
    assert opened(tmp_path, other, restart=True).rows == 0


@pytest.mark.parametrize("restart", [False, True])
def test_what_others_put_into_the_folder_is_kept_and_refused(tmp_path, restart):
    save(opened(tmp_path), 0)
    for name in ("thesis.tex", "000001.npy", ".hidden", "notes/"):
        other = tmp_path / "p" / name
        other.mkdir() if name.endswith("/") else other.write_text("years of work")
        with pytest.raises(InputError, match=rf"p holds '{other.name}', which was not made by embed; move it away or"):
            opened(tmp_path, restart=restart)
        other.rmdir() if name.endswith("/") else other.unlink()
    assert opened(tmp_path, restart=restart).rows == 4 * (not restart)


@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_of_others_is_never_taken_for_ours(tmp_path, restart):
    folder = tmp_path / "p"
    message = "p is in the way and was not made by embed.*; move it away or choose another output"
    folder.write_text("a file")
    with pytest.raises(InputError, match=message):
        opened(tmp_path, restart=restart)
    folder.unlink()
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=message):
        opened(tmp_path, restart=restart)
    folder.unlink()
    folder.mkdir()
    (folder / "manifest.json").write_text('{"name": "a web page"}')
    np.savez(folder / "000000.npz", mine=VECTORS)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match=message):
        opened(tmp_path, restart=restart)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_others_put_there_meanwhile_is_kept_at_the_end(tmp_path):
    checkpoints = opened(tmp_path)
    save(checkpoints, 0)
    (tmp_path / "p" / "thesis.tex").touch()
    checkpoints.remove()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["p", "p/thesis.tex"]


def test_a_full_disk_names_the_file_and_what_is_saved(tmp_path, monkeypatch):
    checkpoints = opened(tmp_path)
    save(checkpoints, 0)

    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    message = r"No space left on device; 4 rows are saved in .*p: make room and run the same again.*000001\.npz"
    with pytest.raises(OutputError, match=message) as raised:
        save(checkpoints, 1)
    assert raised.value.errno == errno.ENOSPC
    monkeypatch.setattr(Path, "write_bytes", lambda path, content: path.touch())
    with pytest.raises(OutputError, match=r"only 0 of [0-9,]+ bytes were written; 4 rows are saved"):
        save(checkpoints, 1)
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["000000.npz", "manifest.json"]
    assert checkpoints.rows == 4
