"""The numbers that rank configurations without labels, on vectors whose numbers can be computed by hand."""

import numpy as np
import pytest

from echo_embeddings.errors import InputError
from echo_embeddings.tuning.halves import Halves, beginning, usable

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
    assert usable(LONG, 10, 64) == usable(LONG, 10, 64)
    assert len(set(usable(LONG + LONG, 100, 64))) == 50
    assert usable([*LONG, "too short"], 100, 64) == usable(LONG, 100, 64)


def test_too_few_texts():
    with pytest.raises(InputError, match="of these 41 texts, 39 differ in their first 64 words and have at least 6"):
        usable([*LONG[:39], LONG[0], "short"], 100, 64)


def test_texts_that_begin_alike_are_one_text():
    header = "word " * 64
    with pytest.raises(InputError, match="of these 50 texts, 1 differ in their first 64 words"):
        usable([header + text for text in LONG], 100, 64)
    assert len(usable([header + text for text in LONG], 100, 66)) == 50


def test_texts_without_spaces_have_halves():
    texts = [f"{chr(0x4E00 + i)}渡轮在黎明离开岛屿面包在温暖的房间里发酵得更快" for i in range(50)]
    assert sorted(usable(texts, 100, 64)) == texts
    halves = Halves.of(["渡轮在黎明离开岛屿", "渡轮 leaves 港口"], words=5)
    assert halves.wholes == ["渡轮在黎明", "渡轮 leaves 港口"]
    assert halves.firsts == ["渡轮在", "渡轮 leaves"]
    assert halves.seconds == ["黎明", "港口"]
    thai = [f"{i} เรือออกจากเกาะตอนรุ่งสางและกลับมาตอนเที่ยง" for i in range(50)]
    assert len(usable(thai, 100, 64)) == 50


def test_what_is_no_word_does_not_fill_the_memory():
    assert len(beginning("A picture: " + "iVBORw0KGgo" * 100_000, 64)) <= 64 * 32
    assert beginning(" " * 10_000 + "a b", 64) == "a b"
