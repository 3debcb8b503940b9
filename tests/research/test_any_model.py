"""The measurements on any model, by examples that can be checked by hand."""

import numpy as np

from echo_embeddings.tuning.candidates import PASSES, Candidate
from research.any_model import choice


def test_regret_is_what_the_choice_of_the_halves_loses():
    def judged(exit_, numbers, score):
        scores = dict.fromkeys((*choice.FIXED, choice.BY_SPREAD), (score, score + 2))
        return choice.Judged(Candidate(PASSES[0], 18, exit_, False, "none", 0.9), numbers, scores, 0.75)

    # The second is first by one number and second by the other: together the best. With labels the third is.
    found = [judged(24, (0.5, 3.0), 60), judged(25, (0.7, 2.0), 70), judged(26, (0.6, 1.0), 73)]
    last = choice.table(found).splitlines()[-1]
    assert last == (
        "| by the spread (0.75) | late echo from layer 18 to 25, none | 70.0 / 72.0 | late echo from layer 18 to 26, "
        "none | 74.0 | 3.0 |"
    )


def test_no_texts_have_no_states():
    assert choice.stacked({"a": np.ones(3, np.float32)}, []).shape == (0, 3)
