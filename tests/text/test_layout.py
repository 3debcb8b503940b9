"""Where the copies of a text stand, worked out on paper."""

import numpy as np

from echo_embeddings.text.layout import Layout

# prefix 2, between 1, suffix 1; a text of three tokens: P P a b c S a b c X
LAYOUT = Layout(((10, 11), (12,), (13,)))


def test_a_layout_on_paper():
    assert LAYOUT.assemble(np.array([1, 2, 3])).tolist() == [10, 11, 1, 2, 3, 12, 1, 2, 3, 13]
    assert LAYOUT.total(3) == 10
    assert LAYOUT.copy(0, 3) == slice(2, 5)
    assert LAYOUT.copy(-1, 3) == slice(6, 9)
    assert LAYOUT.pooled(3) == slice(6, 9)
    assert Layout(LAYOUT.literals, pool_tail=True).pooled(3) == slice(6, 10)
    assert Layout(LAYOUT.literals, only_last=True).pooled(3) == slice(8, 9)
    assert Layout(LAYOUT.literals, pool_tail=True, only_last=True).pooled(3) == slice(9, 10)
    assert LAYOUT.first_pass(3).tolist() == [0, 1, 2, 3, 4, 5, 9]
    assert LAYOUT.expansion(3).tolist() == [0, 1, 2, 3, 4, 5, 2, 3, 4, 6]


def test_three_copies_on_paper():
    layout = Layout(((), (9,), (9,), ()))
    assert layout.assemble(np.array([1, 2])).tolist() == [1, 2, 9, 1, 2, 9, 1, 2]
    assert layout.first_pass(2).tolist() == [0, 1, 2, 5]
    assert layout.expansion(2).tolist() == [0, 1, 2, 0, 1, 3, 0, 1]
    assert layout.pooled(2) == slice(6, 8)


def test_counts_of_several_texts_at_once():
    lengths = np.array([1, 3])
    assert LAYOUT.total(lengths).tolist() == [6, 10]
    last = LAYOUT.copy(-1, lengths)
    assert (last.start.tolist(), last.stop.tolist()) == ([4, 6], [5, 9])


def test_without_a_prefix_only_the_prefix_is_gone():
    layout = LAYOUT.without_prefix()
    assert layout.assemble(np.array([1])).tolist() == [1, 12, 1, 13]
    assert LAYOUT.overhead - layout.overhead == 2
