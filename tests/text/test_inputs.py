"""What is taken as texts, and what is refused because it would be taken apart into something else."""

import array
import collections
import io
import subprocess
import sys
import tempfile
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from echo_embeddings import ConfigError
from echo_embeddings.text.inputs import checked, chunks

DATASET = datasets.Dataset.from_dict({"text": ["a", "b"]})
FRAME = pd.DataFrame({"text": ["a", "b"]})


class Document:
    """As LangChain and pydantic have it: a document can be iterated, over its fields."""

    page_content = "a text"

    def __iter__(self):
        return iter([("page_content", self.page_content)])


SEQUENCES = {
    "list": ["a", "b"],
    "tuple": ("a", "b"),
    "deque": collections.deque(["a", "b"]),
    "strings of numpy": [np.str_("a"), np.str_("b")],
    "array of strings": np.array(["a", "b"]),
    "array of objects": np.array(["a", "b"], dtype=object),
    "array of long strings": np.array(["a", "b"], dtype=np.dtypes.StringDType()),
    "series with an index of its own": pd.Series(["a", "b"], index=[1, 0]),
    "series with labels that are names": pd.Series(["a", "b"], index=["text", "readline"]),
    "categories": pd.Series(["a", "b"], dtype="category"),
    "strings of pandas": pd.array(["a", "b"], dtype="string"),
    "index": pd.Index(["a", "b"]),
    "arrow array": pa.array(["a", "b"]),
    "arrow chunks": pa.chunked_array([["a"], ["b"]]),
    "arrow dictionary": pa.array(["a", "b"]).dictionary_encode(),
    "column of a data set": DATASET["text"],
    "keys": {"a": 1, "b": 2}.keys(),
    "values": {1: "a", 2: "b"}.values(),
}
ONE_BY_ONE = {
    "generator": lambda: (text for text in "ab"),
    "map": lambda: map(str.lower, ["A", "B"]),
    "iterator": lambda: iter(["a", "b"]),
    "streamed column": lambda: DATASET.to_iterable_dataset()["text"],
}
REFUSED = {
    "one string": ("ab", r"not one string; give a list of texts; one text goes in as \[text\]"),
    "bytes": (b"ab", r"not bytes; decode it: \[texts\.decode"),
    "bytearray": (bytearray(b"ab"), "not bytearray; decode it"),
    "memoryview": (memoryview(b"ab"), "not memoryview; pass a list of strings"),
    "letters": (array.array("u", "ab"), "not array; pass a list of strings"),
    "nothing": (None, "not NoneType; pass a list of strings, such as"),
    "number": (3, "not int; pass a list"),
    "class": (list, "not type; pass a list"),
    "dict": ({"a": "b"}, "not dict; pass a list of its values or of its keys"),
    "items": ({"a": "b"}.items(), "not dict_items; pass a list of its values"),
    "set": ({"a", "b"}, r"not set; it has no order, so pass a list, such as sorted\(texts\)"),
    "frozenset": (frozenset("ab"), "not frozenset; it has no order"),
    "table of pandas": (FRAME, r"not DataFrame; pass one of its columns, such as texts\['text'\]"),
    "table of arrow": (pa.table({"text": ["a"]}), "not Table; pass one of its columns"),
    "batch of arrow": (pa.record_batch({"text": ["a"]}), "not RecordBatch; pass one of its columns"),
    "data set": (DATASET, "not Dataset; pass one of its columns"),
    "splits": (datasets.DatasetDict({"train": DATASET}), "not DatasetDict; pass one of its columns"),
    "streamed data set": (DATASET.to_iterable_dataset(), "not IterableDataset; pass one of its columns"),
    "no dimension": (np.array("ab"), r"array has no dimension; pass \[str\(texts\)\] for one text"),
    "two dimensions": (np.array([["a"], ["b"]]), r"more than one dimension; pass one column, such as texts\[:"),
    "matrix of numbers": (torch.zeros(2, 2), "more than one dimension"),
    "file": (io.StringIO("a\nb"), r"not StringIO; it would give lines .* pass texts\.read\(\)\.splitlines\(\)"),
    "path": (Path("texts.txt"), r"Path; pass what the file holds, such as texts\.read_text\(\)"),
    "document": (Document(), r"not Document; pass its text: \[texts\.page_content\]"),
    "lists": ([["a"], ["b"]], r"texts\[0\] is list \(\['a'\]\), not a string; pass a flat list of strings"),
    "pairs": ([("a", "b")], r"texts\[0\] is tuple .* pass a flat list"),
    "rows": ([{"text": "a"}], r"texts\[0\] is dict .* pass one of its fields"),
    "documents": ([Document()], r"texts\[0\] is Document .* pass its text, such as \[one\.page_content for"),
    "bytes of numpy": (np.array([b"a"]), r"texts\[0\] is bytes_? .* text\.decode\('utf-8'\)"),
    "numbers of numpy": (np.arange(2), r"texts\[0\] is (int|Tensor|int64) \(.*0\)*, not a string"),
    "numbers of torch": (torch.arange(2), r"texts\[0\] is (int|Tensor|int64) \(.*0\)*, not a string"),
    "a missing value": (pd.Series(["a", None], index=[7, 8]), r"texts\[1\] is float \(nan\), not a string; drop it"),
    "a missing string": (pd.array(["a", None], dtype="string"), r"texts\[1\] is NAType"),
    "a null": (pa.array(["a", None]), r"texts\[1\] is NoneType"),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_and_columns_are_taken_in_their_order(name):
    texts = SEQUENCES[name]
    assert checked(texts) == ["a", "b"]
    assert list(chunks(texts, 1)) == [["a"], ["b"]]


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_what_can_be_iterated_only_once_is_for_streams(name):
    assert list(chunks(ONE_BY_ONE[name](), 1)) == [["a"], ["b"]]
    with pytest.raises(TypeError, match=r"pass list\(texts\), or give it to stream_documents or stream_queries"):
        checked(ONE_BY_ONE[name]())
    with pytest.raises(TypeError, match=r"pass list\(texts\), or give it to stream_chunks$"):
        checked(ONE_BY_ONE[name](), streamed="stream_chunks")
    with pytest.raises(TypeError, match=r"pass list\(texts\)$"):
        checked(ONE_BY_ONE[name](), streamed=None)


@pytest.mark.parametrize("name", REFUSED)
def test_the_rest_is_refused_with_what_to_pass_instead(name):
    texts, message = REFUSED[name]
    for take in (checked, lambda texts: list(chunks(texts, 10))):
        with pytest.raises(TypeError, match=message):
            take(texts)


def test_a_file_on_disk_is_refused():
    with tempfile.NamedTemporaryFile("w+") as file, pytest.raises(TypeError, match="lines with their line ends"):
        checked(file)


def test_what_cannot_be_a_stream_is_refused_before_it_starts():
    for texts in ("text", {"a": "b"}, {"a"}, FRAME, None):
        with pytest.raises(TypeError, match="texts must be an iterable of strings, not"):
            chunks(texts, 2)
    with pytest.raises(ConfigError, match="chunk=0: give a whole number of at least 1"):
        chunks(["a"], 0)


def test_no_texts_are_texts_too():
    assert checked([]) == checked(np.array([], dtype=str)) == checked(pa.array([], pa.string())) == []
    assert list(chunks([], 2)) == []


def test_the_first_wrong_position_is_named():
    with pytest.raises(TypeError, match=r"texts\[1\] is NoneType \(None\), not a string"):
        checked(["a", None, 3])


def test_chunks_are_taken_one_at_a_time():
    taken = []

    def source():
        for number in range(5):
            taken.append(number)
            yield str(number)

    stream = chunks(source(), 2)
    assert taken == []
    assert next(stream) == ["0", "1"]
    assert taken == [0, 1]
    assert list(stream) == [["2", "3"], ["4"]]


def test_positions_count_over_all_chunks():
    stream = chunks(["a", "b", "c", 4], 2)
    assert next(stream) == ["a", "b"]
    with pytest.raises(TypeError, match=r"texts\[3\] is int"):
        next(stream)


def test_no_library_is_imported_to_know_its_columns():
    code = (
        "import sys\nfrom echo_embeddings.text.inputs import checked, chunks\n"
        "checked(['a']), list(chunks(iter(['a']), 1))\n"
        "print(sorted({'pandas', 'polars', 'pyarrow', 'datasets', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
