"""``embed_folder``: Ray makes of a folder what one machine would."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from echo_embeddings import ConfigError, EncoderOptions
from echo_embeddings.data.reading import Bounds
from echo_embeddings.distributed.folder import Work
from echo_embeddings.distributed.fragments import fragments_of, input_files
from echo_embeddings.distributed.places import place_of
from echo_embeddings.distributed.ray import EmbedFragments, embed_folder
from echo_embeddings.distributed.workers import Workers
from echo_embeddings.errors import InputError
from tests.distributed.conftest import texts_of


def write(folder, rows, files):
    """A folder of texts, with their number as an id."""
    folder.mkdir()
    texts = texts_of(rows)
    for number in range(files):
        ids = range(rows * number // files, rows * (number + 1) // files)
        table = pa.table({"id": ids, "text": [texts[n] for n in ids]})
        pq.write_table(table, folder / f"{number:03}.parquet", row_group_size=500)
    return texts


def test_ray_makes_of_a_folder_what_one_machine_would(ray_of_two, tiny_options, tiny_encoder, tmp_path):
    texts = write(tmp_path / "in", 120, 2)
    options = {"checkpoint_rows": 32, "num_cpus": 1, "workers": 1}
    done = embed_folder(tmp_path / "in", tmp_path / "out", tiny_options, **options)
    assert (done.files, done.rows, done.resumed_from, done.skipped, done.dimension) == (4, 120, 0, 0, 32)
    table = pq.read_table(tmp_path / "out")
    assert sorted(table["id"].to_pylist()) == list(range(120))
    vectors = np.stack(table.sort_by("id")["embedding"].to_numpy())
    np.testing.assert_allclose(vectors, tiny_encoder.encode_documents(texts), atol=1e-5)
    again = embed_folder(tmp_path / "in", tmp_path / "out", tiny_options, **options)
    assert (again.rows, again.resumed_from) == (120, 120)
    with pytest.raises(InputError, match="holds vectors of another job: --role changed since"):
        embed_folder(tmp_path / "in", tmp_path / "out", tiny_options, role="query", **options)


def test_what_a_worker_answers(tmp_path, tiny_options):
    """What it cannot do is an answer too: Ray would wrap what is raised."""
    write(tmp_path / "in", 4, 1)
    source, target = place_of(tmp_path / "in"), place_of(tmp_path / "out")
    (fragment,) = fragments_of(input_files(source, "text", Bounds()), 10)
    row = vars(fragment.file) | {"first": 0, "count": 4, "output": fragment.output}
    work = Work(source, target, "text", "document", False, Bounds(), {"checkpoint_rows": 10})
    answer = EmbedFragments(Workers(1, 0, 0, tiny_options), work)(row)
    assert (answer["output"], answer["kind"]) == ("000.parquet", "InputError")
    missing = Workers(1, 0, 0, EncoderOptions(model=str(tmp_path / "missing")))
    answer = EmbedFragments(missing, work)(row)
    assert answer["kind"] == "ModelError"
    assert "missing" in answer["error"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"on_error": "stop"}, "on_error='stop' is unknown; choose one of raise, skip"),
        ({"checkpoint_rows": 0}, "checkpoint_rows=0: give a whole number of at least 1"),
        ({"role": "passage"}, "role='passage' is unknown; choose document or query"),
    ],
)
def test_wrong_arguments_are_said_before_ray_starts(tmp_path, arguments, said):
    with pytest.raises(ConfigError, match=said):
        embed_folder(tmp_path, tmp_path / "out", **arguments)


def test_a_target_within_the_source(tmp_path):
    with pytest.raises(InputError, match=r"out is in the folder that is read, .*; choose a folder beside it"):
        embed_folder(tmp_path, tmp_path / "out")
