"""Which tokens a chunk has: every rule by hand, on tokens written out in the test."""

from types import SimpleNamespace

import numpy as np
import pytest

from echo_embeddings.errors import InputError
from echo_embeddings.text.spans import char_spans, checked_spans, require_chunks, token_ranges

TEXT = "One two.  Three"
#       0123456789...
# As a byte-level tokenizer without trimming has them: the space belongs to the word behind it.
TOKENS = np.array([(0, 3), (3, 7), (7, 8), (8, 9), (9, 15)])  # "One" " two" "." " " " Three"


def ranges(*spans, text=TEXT, tokens=TOKENS):
    return token_ranges(text, tokens, np.array(spans).reshape(-1, 2)).tolist()


def test_a_token_belongs_to_every_span_that_has_one_of_its_characters():
    assert ranges((0, 3), (4, 8), (10, 15)) == [[0, 1], [1, 3], [4, 5]]
    assert ranges((0, 5), (5, 8)) == [[0, 2], [1, 3]]  # "two" is cut, and belongs to both
    assert ranges((11, 12)) == [[4, 5]]


def test_the_space_before_a_word_does_not_count():
    assert ranges((0, 4)) == [[0, 1]]
    assert ranges((7, 9)) == [[2, 4]]  # a token of white space alone has its characters
    assert ranges((3, 4)) == [[0, 0]]  # only the space of " two"


def test_space_behind_a_word_does_not_count_either():
    tokens = np.array([(0, 3), (3, 10), (10, 15)])  # some tokenizers join a full stop and the line ends behind it
    assert ranges((0, 8), (8, 15), tokens=tokens) == [[0, 2], [2, 3]]


def test_the_whole_text_has_all_tokens_even_those_without_characters():
    tokens = np.array([(0, 0), (0, 3), (3, 7), (7, 8), (10, 15), (15, 15)])
    assert ranges((0, 15), tokens=tokens) == [[0, 6]]
    assert ranges((0, 8), (10, 15), tokens=tokens) == [[0, 4], [4, 6]]


def test_spans_have_any_order_and_may_overlap_or_be_empty():
    assert ranges((10, 15), (0, 8), (0, 15), (5, 5), (0, 0), (15, 15)) == [
        [4, 5],
        [0, 3],
        [0, 5],
        [0, 0],
        [0, 0],
        [0, 0],
    ]
    assert ranges((0, 0), text="", tokens=np.array([(0, 0)])) == [[0, 0]]
    assert ranges() == []


def test_a_character_of_several_tokens_has_all_of_them():
    tokens = np.array([(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)])
    assert ranges((0, 1), (1, 2), (2, 3), text="a🙂b", tokens=tokens) == [[0, 1], [1, 4], [4, 5]]


def test_what_is_no_span_is_named():
    with pytest.raises(InputError, match=r"chunks\[1\] is \(3, 16\), which is no part of .*'One two.*15 characters"):
        checked_spans(TEXT, [(0, 3), (3, 16)])
    for span in ((-1, 3), (5, 4)):
        with pytest.raises(InputError, match=r"0 <= start <= end <= 15"):
            checked_spans(TEXT, [span])
    for span in ((1, 2, 3), 7, (0.0, 3.0), (None, 2)):
        with pytest.raises(TypeError, match=r"chunks\[0\] is .* not a pair of whole numbers"):
            checked_spans(TEXT, [span])
    with pytest.raises(TypeError, match=r"chunks\[0\] is a text \('One two\.'\).*spans_of"):
        checked_spans(TEXT, ["One two."])
    with pytest.raises(TypeError, match=r"chunks\[0\] is a SimpleNamespace of another library.*spans_of\(splitter\)"):
        checked_spans(TEXT, [SimpleNamespace(text="One two.", start_index=0)])
    with pytest.raises(InputError, match=rf"chunks\[0\] is \(0, {10**30}\), which is no part of"):
        checked_spans(TEXT, [(0, 10**30)])
    assert checked_spans(TEXT, []).shape == checked_spans(TEXT, np.empty((0, 2))).shape == (0, 2)


def test_spans_of_several_documents():
    found = char_spans(["abc", ""], [np.array([[0, 1], [1, 3]]), []])
    assert [one.tolist() for one in found] == [[[0, 1], [1, 3]], []]
    assert char_spans(["abc", "de"], lambda text: [(0, len(text))])[1].tolist() == [[0, 2]]
    with pytest.raises(InputError, match=r"spans of 1 document\(s\), and there are 2 document\(s\)"):
        char_spans(["abc", "de"], [[(0, 3)]])
    with pytest.raises(InputError, match=r"chunks\[7\]\[0\] is \(0, 4\)"):
        char_spans(["abc"], [[(0, 4)]], first=7)
    with pytest.raises(TypeError, match=r"chunks\[0\]\[0\] is 0, not a pair"):
        char_spans(["abc"], [(0, 3)])
    with pytest.raises(TypeError, match=r"chunks must be a function .* not RecursiveSplitter; .*spans_of\(splitter\)"):
        char_spans(["abc"], type("RecursiveSplitter", (), {})())


def test_a_splitter_that_can_be_called_is_no_function_from_a_document_to_spans():
    class Splitter:
        def split_text(self, text):
            return text.split()

        def __call__(self, nodes):
            return [node.text for node in nodes]

    with pytest.raises(TypeError, match=r"not Splitter; for a splitter of another library: .*spans_of\(splitter\)"):
        require_chunks(Splitter())
    with pytest.raises(TypeError, match="not the class Splitter"):
        require_chunks(Splitter)
    require_chunks(Splitter().split_text)
