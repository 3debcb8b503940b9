"""Stretches by hand: where they begin, how they overlap, and from which of them a chunk is taken."""

from itertools import pairwise

import numpy as np
import pytest

from echo_embeddings.text.layout import Content
from echo_embeddings.text.stretches import for_chunks, for_texts, for_tokens, overlapping, side_by_side


def content(tokens, *chunks):
    return Content(np.arange(tokens), chunks=chunks)


def test_side_by_side_reads_each_token_once():
    assert side_by_side(5, 5) == [(0, 5)]
    assert side_by_side(6, 5) == [(0, 3), (3, 6)]
    assert side_by_side(11, 5) == [(0, 3), (3, 7), (7, 11)]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 8, 512])
@pytest.mark.parametrize("tokens", [1, 2, 7, 512, 513, 1200])
def test_stretches_cover_a_text_within_the_limit(tokens, limit):
    beside, over = side_by_side(tokens, limit), overlapping(tokens, limit)
    assert len(beside) == -(-tokens // limit)
    for found in (beside, over):
        assert (found[0][0], found[-1][1]) == (0, tokens)
        assert all(0 < stop - start <= limit for start, stop in found)
    assert all(before[1] == behind[0] for before, behind in pairwise(beside))
    assert all(before[1] - behind[0] >= limit // 16 for before, behind in pairwise(over))
    assert len({stop - start for start, stop in over}) == 1  # so nothing is padded
    assert sum(stop - start for start, stop in over) <= tokens * 8 / 7 + limit


def test_shares_of_a_text_are_by_tokens():
    (whole, first, second) = for_texts([content(4), content(7)], 4)
    assert (whole.text, whole.parts[0].share) == (0, 1.0)
    assert [(one.text, one.content.ids.tolist()) for one in (first, second)] == [(1, [0, 1, 2]), (1, [3, 4, 5, 6])]
    assert [one.parts[0].share for one in (first, second)] == [3 / 7, 4 / 7]


def test_a_token_in_two_stretches_is_taken_where_it_has_most_context():
    assert overlapping(13, 8) == [(0, 8), (5, 13)]
    first, second = for_tokens([content(13)], 8)
    assert (first.parts[0].first, first.parts[0].stop) == (0, 6)  # tokens 0 to 5: the middle of 5 to 7
    assert (second.first + second.parts[0].first, second.first + second.parts[0].stop) == (6, 13)


def taken(tokens, limit, *chunks):
    """For each chunk, the tokens that are taken, with the first token of the stretch that they are taken from."""
    found = [[] for _ in chunks]
    for one in for_chunks([content(tokens, *chunks)], limit, stand_in=99):
        assert len(one.content.ids) <= limit
        for part in one.parts:
            ids = one.content.ids[part.first : part.stop].tolist()
            found[part.of].append((one.first, ids, part.share))
    return found


def test_a_chunk_comes_from_the_stretch_where_it_has_most_context():
    assert overlapping(20, 8) == [(0, 8), (6, 14), (12, 20)]
    assert taken(20, 8, (6, 8)) == [[(0, [6, 7], 1.0)]]  # a tie: none behind it, none before it
    assert overlapping(16, 12) == [(0, 12), (4, 16)]
    assert taken(16, 12, (5, 7), (9, 11), (0, 5), (11, 16)) == [
        [(0, [5, 6], 1.0)],  # 5 before and 5 behind; in the other stretch 1 before
        [(4, [9, 10], 1.0)],  # 5 before and 5 behind; in the other stretch 1 behind
        [(0, [0, 1, 2, 3, 4], 1.0)],  # the text begins there, which is context enough
        [(4, [11, 12, 13, 14, 15], 1.0)],
    ]


def test_a_chunk_longer_than_a_stretch_is_taken_in_parts():
    (parts,) = taken(18, 8, (1, 15))
    assert [number for _, ids, _ in parts for number in ids] == list(range(1, 15))  # each token once
    assert len(parts) == 3
    assert sum(share for *_, share in parts) == pytest.approx(1)
    assert [share for *_, share in parts] == pytest.approx([len(ids) / 14 for _, ids, _ in parts])


def test_a_chunk_without_tokens_is_read_as_an_empty_text():
    (empty, whole) = taken(5, 8, (0, 0), (0, 5))
    assert empty == [(0, [99], 1.0)]
    assert whole == [(0, [0, 1, 2, 3, 4], 1.0)]


def test_stretches_of_which_nothing_is_taken_are_not_read():
    assert [one.first for one in for_chunks([content(100, (0, 2), (97, 99))], 10, 0)] == [0, 90]
    assert for_chunks([content(100)], 10, 0) == []


def test_chunks_are_counted_over_all_texts():
    found = for_chunks([content(3, (0, 1), (1, 3)), content(3), content(3, (0, 3), (0, 3))], 10, 0)
    assert [(one.text, [part.of for part in one.parts]) for one in found] == [(0, [0, 1]), (2, [2, 3])]
