"""Neighbours before and after, on vectors whose cosines are known."""

import numpy as np

from echo_embeddings.tuning.neighbours import neighbours


def on_circle(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_the_nearest_come_first_and_what_changed_is_shown_first():
    texts = ["a", "b", "c", "d", "e"]
    before, after = on_circle(0, 10, 20, 30, 180), on_circle(180, 10, 20, 30, 0)
    found = neighbours(texts, before, after)
    assert len(found) == 5
    by_text = {one.text: one for one in found}
    assert [text for text, _ in by_text["a"].before] == ["b", "c", "d"]
    assert [text for text, _ in by_text["a"].after] == ["d", "c", "b"]
    assert [round(cosine, 3) for _, cosine in by_text["e"].after] == [0.985, 0.94, 0.866]
    assert {one.text for one in found[:3]} == {"b", "c", "d"}, (
        "their neighbour a became e; those of a and e are the same"
    )
