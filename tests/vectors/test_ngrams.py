from collections import Counter

import numpy as np

from echo_embeddings.vectors.ngrams import mixed, ngrams


def by_hand(text, size=4):
    """What ngrams finds in a text, as strings: the slow and obvious way."""
    padded = (f" {word:<{size - 2}} " for word in text.casefold().split())
    return Counter(word[i : i + size] for word in padded for i in range(len(word) - size + 1))


def test_every_window_of_a_word_between_spaces_is_one():
    assert by_hand("Mill a") == Counter([" mil", "mill", "ill ", " a  "])
    text = "the mill and the miller"
    found = ngrams([text], 4)
    assert sorted(found.counts.tolist()) == sorted(by_hand(text).values())
    assert len(set(found.hashes.tolist())) == len(found.hashes)
    for size in (3, 5):
        assert ngrams([text], size).counts.sum() == sum(by_hand(text, size).values())


def test_words_have_no_case_no_order_and_no_punctuation():
    one, other = ngrams(["The Mill, of STRASSE №5"], 4), ngrams(["no5; (straße) mill of the"], 4)
    np.testing.assert_array_equal(one.hashes, other.hashes)
    assert set(ngrams(["mill"], 4).hashes) < set(one.hashes)
    quoted = ngrams(["«the»—“mill”… (of) «strasse» no5。"], 4)
    np.testing.assert_array_equal(quoted.hashes, one.hashes)
    assert len(ngrams(["हिन्दी"], 4).hashes) == 5  # six characters, two of them vowel signs and one a virama


def test_a_text_has_the_same_ngrams_alone_and_among_others():
    texts = ["", "The ferry, at dawn.", "!?", "the the the", "\ud800 ärger 東京都 x"]
    together = ngrams(texts, 4)
    for row, text in enumerate(texts):
        alone, own = ngrams([text], 4), together.rows == row
        np.testing.assert_array_equal(together.hashes[own], alone.hashes)
        np.testing.assert_array_equal(together.counts[own], alone.counts)
    assert len(ngrams([], 4).hashes) == len(ngrams(["", "..."], 4).hashes) == 0


def test_hashes_are_the_same_on_every_machine():
    # The first outputs of SplitMix64 started at 0 and at 1, as published with the algorithm's reference code.
    wanted = [0xE220A8397B1DCDAF, 0x910A2DEC89025CC1]
    assert mixed(np.array([0, 1], np.uint64)).tolist() == wanted


def test_more_texts_than_16_bits_can_number():
    found = ngrams(["one", *[""] * 2**16, "two one"], 4)
    assert found.rows.tolist() == [0] * 2 + [2**16 + 1] * 4
    assert set(found.hashes[:2]) < set(found.hashes[2:])
    assert (np.diff(found.hashes[2:].astype(object)) > 0).all()
