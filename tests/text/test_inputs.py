import pytest

from echo_embeddings import ConfigError
from echo_embeddings.text.inputs import checked, chunks


def test_any_iterable_of_strings_becomes_a_list():
    assert checked(text for text in "ab") == ["a", "b"]
    assert checked([]) == []


@pytest.mark.parametrize("texts", [None, 3, b"text", {"text": 1}])
def test_what_holds_no_texts_is_refused(texts):
    with pytest.raises(TypeError, match=f"texts must be a string or a list of strings, not {type(texts).__name__}"):
        checked(texts)


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


def test_what_gives_no_chunks_is_refused_at_once():
    with pytest.raises(TypeError, match="not one string"):
        chunks("text", 2)
    with pytest.raises(ConfigError, match="chunk=0: give at least 1 text"):
        chunks(["a"], 0)
