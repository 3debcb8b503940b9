import asyncio
import warnings

import numpy as np
import pytest

from echo_embeddings import TruncationError, TruncationWarning
from echo_embeddings.text.layout import Content
from echo_embeddings.text.truncation import Truncated, TruncationCount, one_call

IDS = np.arange(8)
TEXTS, CONTENTS = ["a", "bb", "ccc"], [Content(IDS, 3), Content(IDS), Content(IDS, 4)]


def test_a_call_is_counted_over_all_its_chunks_and_warned_of_once():
    count = TruncationCount("warn", 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is said before the end of the call
        count.add(TEXTS, CONTENTS, 8)
        count.add(TEXTS[:1], CONTENTS[:1], 8)
    with pytest.warns(TruncationWarning, match=r"3 text\(s\) were truncated to max_length=8 tokens; 10 tokens") as seen:
        count.warn()
    assert len(seen) == 1
    assert (seen[0].message.texts, seen[0].message.tokens) == (3, 10)
    assert count.total(Truncated(1, 2)) == Truncated(4, 12)


def test_a_smaller_limit_than_the_configs_is_explained():
    count = TruncationCount("warn", 512)
    count.add(TEXTS, CONTENTS, 8)
    with pytest.warns(TruncationWarning, match=r"to 8 tokens, which is what fits the model's context") as seen:
        count.warn()
    assert "raise max_length" not in str(seen[0].message)  # it would change nothing


def test_calls_within_a_call_of_a_framework_are_said_together():
    def embed(limit):
        count = TruncationCount("warn", 8)
        count.add(TEXTS, CONTENTS, limit)
        count.warn()

    def call():
        with one_call():
            embed(8)
            with one_call():
                embed(8)
            asyncio.run(asyncio.to_thread(embed, 6))

    def failing():
        with one_call():
            embed(8)
            raise KeyError

    with pytest.warns(TruncationWarning) as seen:
        call()
    assert [(one.message.texts, one.message.tokens) for one in seen] == [(4, 14), (2, 7)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(KeyError):  # a call that fails says why, and nothing else
            failing()


def test_an_error_comes_with_the_first_chunk_and_quotes_the_text():
    count = TruncationCount("error", 8)
    with pytest.raises(TruncationError, match=r"2 text\(s\) are longer .* the first has 11: 'a'") as raised:
        count.add(TEXTS, CONTENTS, 8)
    assert (raised.value.texts, raised.value.tokens) == (2, 7)


@pytest.mark.parametrize(("policy", "contents"), [("ignore", CONTENTS), ("warn", CONTENTS[1:2] * 3)])
def test_otherwise_nothing_is_said(policy, contents):
    count = TruncationCount(policy, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        count.add(TEXTS, contents, 8)
        count.warn()
