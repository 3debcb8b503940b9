"""Awaiting vectors: equal to the blocking calls, without blocking, in batches under load."""

import asyncio
import pickle
import time

import numpy as np
import pytest

from echo_embeddings import ConfigError
from echo_embeddings.engine.awaited import Awaited
from tests.conftest import cosines


async def test_awaited_vectors_equal_the_others(float32_encoder, texts):
    single = await float32_encoder.aencode_queries(texts[0])
    several = await float32_encoder.aencode_documents(texts)
    assert single.shape == (float32_encoder.dimension,)
    assert cosines(single, float32_encoder.encode_queries(texts[0])) > 0.99999
    assert cosines(several, float32_encoder.encode_documents(texts)).min() > 0.99999


async def test_queries_at_the_same_time_share_batches(float32_encoder, monkeypatch):
    sizes, encode = [], float32_encoder.encode_queries

    def counting(texts, **options):
        sizes.append(len(texts))
        return encode(texts, **options)

    monkeypatch.setattr(float32_encoder, "encode_queries", counting)
    monkeypatch.setattr(float32_encoder, "_awaited", Awaited())
    questions = [f"what is the number {i}?" for i in range(20)]
    found = await asyncio.gather(*map(float32_encoder.aencode_queries, questions))
    assert sizes == [1, 19]  # the first starts at once, the others come while it runs
    assert cosines(np.stack(found), encode(questions)).min() > 0.99999


async def test_the_event_loop_goes_on(float32_encoder):
    turns, running = 0, asyncio.create_task(float32_encoder.aencode_documents(["a text of some words"] * 20 + ["b"]))
    longest, last = 0.0, time.perf_counter()
    while not running.done():
        await asyncio.sleep(0.001)
        longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
        turns += 1
    assert len(running.result()) == 21
    assert turns > 3


async def test_a_bad_query_fails_alone(late_encoder):
    good, bad = await asyncio.gather(
        late_encoder.aencode_queries("what is it?"), late_encoder.aencode_queries(3), return_exceptions=True
    )
    assert good.shape == (late_encoder.dimension,)
    assert "texts must be a string or a list of strings, not int" in str(bad)
    with pytest.raises(ConfigError, match="instruction"):
        await late_encoder.aencode_queries("what is it?", instruction="Find an answer")


async def test_an_encoder_that_was_awaited_can_be_pickled(late_encoder):
    await late_encoder.aencode_queries("what is it?")
    assert pickle.loads(pickle.dumps(late_encoder)).config == late_encoder.config
