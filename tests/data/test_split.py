"""Tables whose texts are split into passages, and jobs on them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from echo_embeddings import embed_table
from echo_embeddings.data.passages import chunks
from echo_embeddings.data.split import passage_spans
from echo_embeddings.errors import InputError
from tests.data.fake import FakeEncoder

LONG = " ".join(f"This is sentence {i} of ten words, or about so many." for i in range(30))
TEXT = f"A short one.\n\n{LONG}\n\nFerries\n=======\n\nThey leave at dawn."
ROWS = [{"id": "a", "text": TEXT, "tags": ["x"]}, {"id": "b", "text": "", "tags": None}, {"id": "c", "text": "One."}]


def run(rows, target, encoder=None, **options):
    return embed_table(rows, target, encoder or FakeEncoder(), **({"split": "passages"} | options))


# --- where passages stand ---------------------------------------------------------------------------------------------


def test_spans_are_the_passages_of_an_index():
    spans = passage_spans(TEXT)
    blocks = [block.text for block in chunks(TEXT.splitlines())]
    assert len(spans) == len(blocks) == 4
    for (start, end), block in zip(spans, blocks, strict=True):
        assert [word for word in TEXT[start:end].split() if word != "======="] == block.split()
    assert TEXT[spans[-1][0] : spans[-1][1]] == "Ferries\n=======\n\nThey leave at dawn."


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("", [(0, 0)]),
        (" \n ", [(0, 3)]),
        ("=====", [(0, 5)]),
        ("  One. \r\n\n Two.\n", [(2, 15)]),
        ("\ud800 a", [(0, 3)]),
    ],
)
def test_spans_of_odd_texts(text, spans):
    assert passage_spans(text) == spans


def test_a_text_without_spaces_is_split():
    text = "火。" * 200
    found = passage_spans(text)
    assert len(found) > 1
    assert "".join(text[start:end] for start, end in found) == text


def test_a_text_does_not_stand_beside_its_own_passages(tmp_path, monkeypatch):
    """A text of 1 MB has some 2,000 passages: beside each of them it would take 2 GB."""
    long = "Ferries leave at dawn, and nobody knows why they do. " * 300
    passages, size = len(passage_spans(long)), len(long)
    monkeypatch.setattr("echo_embeddings.data.split._MOST", passages * size // 2)
    rows = [{"text": "one", "html": "a"}, {"text": long, "html": "b", "more": None}]
    assert run(rows, tmp_path / "a.parquet").rows == passages + 1
    assert pq.read_table(tmp_path / "a.parquet").column_names == [
        "text", "html", "more", "row", "start", "end", "embedding",
    ]  # fmt: skip
    rows[1]["html"] = long
    said = rf"row 2: .* takes {size + 4:,} bytes, most of them in column 'html', .* {passages} passages; leave that"
    with pytest.raises(InputError, match=said):
        run(rows, tmp_path / "b.parquet")
    assert run([{"text": long}], tmp_path / "c.parquet").rows == passages  # no other column
    kinds = pa.array(["a", long]).dictionary_encode()  # of which the indices alone are repeated
    pq.write_table(pa.table({"text": [long], "kind": kinds.slice(0, 1)}), tmp_path / "in.parquet")
    assert run(tmp_path / "in.parquet", tmp_path / "d.parquet").rows == passages


def test_a_value_that_its_column_cannot_hold_later_names_its_place(tmp_path):
    rows = [{"text": "one", "n": 2**60 + 1}] * 16 + [{"text": "two", "n": 0.5}]
    with pytest.raises(InputError, match=r"row 1 and the rows below it: parquet cannot hold column 'n'"):
        run(rows, tmp_path / "out.parquet")


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_a_row_for_each_passage_with_its_place(tmp_path):
    done = run(ROWS, tmp_path / "out.parquet")
    made = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert done.rows == len(made) == 6
    assert [one["row"] for one in made] == [0, 0, 0, 0, 1, 2]
    assert [one["id"] for one in made] == [*"aaaa", "b", "c"]
    assert made[0]["tags"] == ["x"]
    assert made[-1]["tags"] is None
    for one in made:
        assert ROWS[one["row"]]["text"][one["start"] : one["end"]] == one["text"]
        assert one["embedding"] == [len(one["text"]), sum(map(one["text"].count, "aeiou")), 1]
    assert list(made[0]) == ["id", "text", "tags", "row", "start", "end", "embedding"]


def test_late_chunking_reads_texts_as_a_whole(tmp_path):
    run(ROWS, tmp_path / "out.parquet", late_chunking=True)
    for one in pq.read_table(tmp_path / "out.parquet").to_pylist():
        assert one["embedding"] == [one["end"] - one["start"], len(ROWS[one["row"]]["text"]), 2]


def test_a_parquet_input_keeps_its_types(tmp_path):
    table = pa.table({"n": pa.array([1, 2], pa.int8()), "text": pa.array([TEXT, "One."], pa.large_string())})
    pq.write_table(table, tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tmp_path / "out.parquet")
    made = pq.read_table(tmp_path / "out.parquet")
    assert made["n"].to_pylist() == [1, 1, 1, 1, 2]
    assert made.schema.field("n").type == pa.int8()


def test_a_job_goes_on_and_gives_the_same_bytes(tmp_path):
    rows = [{"id": i, "text": f"{TEXT} {i}"} for i in range(40)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(tmp_path / "in.jsonl", tmp_path / "whole.parquet", checkpoint_rows=50)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "in.jsonl", tmp_path / "out.parquet", FakeEncoder(stop_after=2), checkpoint_rows=50)
    with pytest.raises(InputError, match="something else: --split changed"):
        run(tmp_path / "in.jsonl", tmp_path / "out.parquet", checkpoint_rows=50, split=None)
    with pytest.raises(InputError, match="something else: --late-chunking changed"):
        run(tmp_path / "in.jsonl", tmp_path / "out.parquet", checkpoint_rows=50, late_chunking=True)
    encoder = FakeEncoder()
    done = run(tmp_path / "in.jsonl", tmp_path / "out.parquet", encoder, checkpoint_rows=50)
    assert done.rows == 160
    assert done.resumed_from == 128  # checkpoints end with a row: those of 16 rows, 4 passages each, twice
    assert encoder.embedded == [32]
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_types_of_rows_far_apart_are_joined_or_named(tmp_path):
    rows = [{"n": 1, "text": "One."}] * 20 + [{"n": 1.5, "text": "One."}]
    run(rows, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["n"].to_pylist()[-1] == 1.5
    with pytest.raises(InputError, match="row 17 and the rows below it: parquet cannot hold column 'n'"):
        run([*rows[:16], {"n": "x", "text": "One."}], tmp_path / "bad.parquet")
    with pytest.raises(InputError, match="row 18: parquet cannot hold column 'n'"):
        run([*rows[:17], {"n": "x", "text": "One."}], tmp_path / "bad.parquet")


def test_what_cannot_be_split_is_refused(tmp_path):
    cases = [
        ({"split": "words"}, "split='words' is unknown; choose passages, or leave it out"),
        ({"split": None, "late_chunking": True}, "add split='passages' (--split passages)"),
        ({"role": "query"}, "role='query': only documents are split"),
        ({"rows": [{"text": "A", "start": 1}]}, "row 1: there is a column 'start' already"),
    ]
    for more, message in cases:
        rows = more.pop("rows", ROWS)
        with pytest.raises(InputError) as error:
            run(rows, tmp_path / "out.parquet", **more)
        assert message in str(error.value)
    with pytest.raises(InputError, match=r"out.npy: split='passages' .* needs a .parquet output"):
        run(ROWS, tmp_path / "out.npy")


def test_a_split_table_can_be_read_as_texts_and_rows():
    from echo_embeddings.data.split import SplitTable
    from echo_embeddings.data.tables import open_table

    texts = list(SplitTable(open_table(ROWS)).texts())
    rows = list(SplitTable(open_table(ROWS)).rows())
    assert [row["text"] for _, row in rows] == texts
    assert rows[-1] == ("row 3", {"id": "c", "text": "One.", "row": 2, "start": 0, "end": 4})
    assert np.diff([row["row"] for _, row in rows]).min() >= 0
