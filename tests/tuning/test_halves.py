"""The numbers that rank configurations without labels, on vectors whose numbers can be computed by hand."""

import numpy as np
import pytest

from echo_embeddings.errors import InputError
from echo_embeddings.tuning.halves import Halves, usable

LONG = [f"{' '.join(f'word{i}x{j}' for j in range(24))}" for i in range(50)]


def test_texts_are_split_at_their_middle():
    halves = Halves.of(["a b c d e", "f g  h\ni"], words=64)
    assert halves.wholes == ["a b c d e", "f g h i"]
    assert halves.firsts == ["a b c", "f g"]
    assert halves.seconds == ["d e", "h i"]
    assert Halves.of(["a b c d e"], words=4).seconds == ["c d"]


def test_halves_that_find_each_other():
    halves = Halves.of(LONG[:4], words=64)
    own = np.eye(4, dtype=np.float32)
    turned = np.roll(own, 1, axis=0)
    found, of_whole = halves.measure(np.concatenate([own, own, own]))
    assert found == 1
    assert of_whole == pytest.approx(3**0.5)  # 1 of 1, 0, 0, 0: (1 - 1/4) / sqrt(3/16)
    found, of_whole = halves.measure(np.concatenate([own, own, turned]))
    assert found == pytest.approx(1 / 2)  # one other text is nearer, and the rest is level
    assert of_whole == pytest.approx((3**0.5 - 3**-0.5) / 2)  # the second halves are like another text: (0 - 1/4) / ...


def test_halves_that_find_each_other_and_not_their_text():
    halves = Halves.of(["one two three four five six", "seven eight nine ten eleven twelve"], words=64)
    own, other = np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[::-1]
    with_wholes = halves.measure(np.concatenate([own, own, own]))
    without = halves.measure(np.concatenate([other, own, own]))
    assert with_wholes[0] == without[0] == 1, "the halves find each other all the same"
    assert with_wholes[1] == pytest.approx(1)
    assert without[1] == pytest.approx(-1)


def test_the_choice_is_always_the_same():
    assert usable(LONG, 10) == usable(LONG, 10)
    assert len(set(usable(LONG + LONG, 100))) == 50
    assert usable([*LONG, "too short"], 100) == usable(LONG, 100)


def test_too_few_texts():
    with pytest.raises(InputError, match="of these 41 texts, 39 are different and have at least 6 words; at least 40"):
        usable([*LONG[:39], LONG[0], "short"], 100)
