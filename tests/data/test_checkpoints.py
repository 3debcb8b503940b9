"""Checkpoints of an unfinished job. No model."""

import numpy as np
import pytest

from echo_embeddings.data.checkpoints import Checkpoint, Checkpoints
from echo_embeddings.errors import InputError

MANIFEST = {
    "column": "text",
    "role": "document",
    "model": "m",
    "config": "c",
    "precision": "cpu torch.float32",
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


def test_a_damaged_checkpoint_is_named(tmp_path):
    checkpoints = opened(tmp_path)
    save(checkpoints, 0)
    (tmp_path / "p" / "000000.npz").write_bytes(b"half")
    with pytest.raises(InputError, match=r"000000\.npz is damaged .*; remove it, and its rows are computed again"):
        checkpoints.get(0)
