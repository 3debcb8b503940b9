"""Awaiting vectors: equal to the blocking calls, without blocking, in batches under load."""

import asyncio
import gc
import pickle
import subprocess
import sys
import threading
import time
import weakref

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


# --- whatever happens in the thread reaches those who wait, and the next text works -----------------------------------


class Panic(BaseException):
    """What a panic in a library written in Rust (pyo3's ``PanicException``) looks like."""


def doubled(texts):
    return [2 * text for text in texts]


def raising(error):
    def embed(_):
        raise error

    return embed


async def within_seconds(awaitable):
    return await asyncio.wait_for(awaitable, timeout=20)


@pytest.mark.parametrize(
    ("embed", "expected", "message"),
    [
        (raising(ValueError("no")), ValueError, "no"),
        (raising(Panic("index out of bounds")), Panic, "index out of bounds"),
        (raising(MemoryError("full")), MemoryError, "full"),
        (raising(StopIteration(3)), RuntimeError, "StopIteration"),
        (raising(GeneratorExit("end")), GeneratorExit, "end"),
        (lambda _: [], ValueError, "the embedder gave 0 vectors for 1 texts"),
        (lambda texts: texts * 2, ValueError, "the embedder gave 2 vectors for 1 texts"),
        (lambda _: None, TypeError, "not iterable"),
        (lambda texts: (1 // 0 for _ in texts), ZeroDivisionError, "by zero"),
    ],
)
async def test_an_error_reaches_who_waits_and_the_next_text_works(embed, expected, message):
    awaited = Awaited()
    for _ in range(2):
        with pytest.raises(expected, match=message):
            await within_seconds(awaited("a", embed))
        assert await within_seconds(awaited("a", doubled)) == "aa"


@pytest.mark.parametrize("error", [SystemExit(73), KeyboardInterrupt()])
def test_an_end_that_is_asked_for_in_the_thread_ends_the_event_loop(error):
    """As it would if it were raised in the event loop itself."""
    awaited = Awaited()
    with pytest.raises(type(error)):
        asyncio.run(within_seconds(awaited("a", raising(error))))
    assert asyncio.run(within_seconds(awaited("a", doubled))) == "aa"


def slow(seconds):
    def embed(texts):
        time.sleep(seconds)
        return doubled(texts)

    return embed


@pytest.mark.parametrize("error", [ValueError("no"), Panic("no")])
async def test_of_a_batch_only_the_text_at_fault_fails(error):
    def embed(texts):
        if "bad" in texts:
            raise error
        return doubled(texts)

    awaited = Awaited()
    first = asyncio.create_task(awaited("a", slow(0.2)))
    await asyncio.sleep(0.05)
    batch = [awaited(text, embed, "key") for text in ("b", "bad", "c")]
    b, bad, c = await within_seconds(asyncio.gather(*batch, return_exceptions=True))
    assert (await first, b, c) == ("aa", "bb", "cc")
    assert bad is error


async def test_an_embedder_that_gives_too_few_vectors_for_a_batch_is_asked_text_by_text():
    awaited = Awaited()
    first = asyncio.create_task(awaited("a", slow(0.2)))
    await asyncio.sleep(0.05)
    batch = [awaited(text, lambda texts: doubled(texts[:1]), "key") for text in "bcd"]
    assert await within_seconds(asyncio.gather(*batch)) == ["bb", "cc", "dd"]
    assert await first == "aa"


@pytest.mark.parametrize("starts", [False, True])
async def test_a_thread_that_does_not_start_is_an_error(monkeypatch, starts):
    """``starts``: it is interrupted when the thread runs already."""
    awaited, start = Awaited(), threading.Thread.start

    def fail(thread):
        if starts:
            start(thread)
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await within_seconds(awaited("a", slow(0.2)))
    assert await within_seconds(asyncio.gather(*(awaited(text, doubled) for text in "abc"))) == ["aa", "bb", "cc"]


async def test_texts_whose_caller_is_cancelled_leave_the_others_alone():
    awaited, ran = Awaited(), []

    def embed(texts):
        ran.extend(texts)
        time.sleep(0.1)
        return doubled(texts)

    tasks = [asyncio.create_task(awaited(text, embed)) for text in "abcdef"]
    await asyncio.sleep(0.05)
    for task in tasks[:3]:  # the first runs already
        task.cancel()
    found = await within_seconds(asyncio.gather(*tasks, return_exceptions=True))
    assert found[3:] == ["dd", "ee", "ff"]
    assert all(isinstance(one, asyncio.CancelledError) for one in found[:3])
    assert ran == ["a", "d", "e", "f"]


def test_an_event_loop_that_is_closed_while_its_text_runs_leaves_the_others_alone(caplog):
    awaited = Awaited()

    async def leave():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(awaited("a", slow(0.3)), timeout=0.05)

    loop = asyncio.new_event_loop()
    forgotten = loop.create_task(awaited("b", slow(0.3)))
    loop.run_until_complete(leave())
    forgotten.cancel()
    loop.close()
    assert asyncio.run(within_seconds(awaited("c", doubled))) == "cc"
    abandoned = asyncio.new_event_loop()
    task = abandoned.create_task(awaited("d", slow(0.3)))
    abandoned.run_until_complete(asyncio.sleep(0.05))
    abandoned.close()  # while it waits
    assert asyncio.run(within_seconds(awaited("e", doubled))) == "ee"
    assert not caplog.records
    task._log_destroy_pending = False


async def test_many_event_loops_and_threads_share_one_queue():
    awaited, found = Awaited(), {}

    def run(i):
        async def several():
            return await asyncio.gather(*(awaited(f"{i}-{j}", slow(0.01)) for j in range(20)))

        found[i] = asyncio.run(several())

    threads = [threading.Thread(target=run, args=(i,)) for i in range(5)]
    for thread in threads:
        thread.start()
    await asyncio.to_thread(lambda: [thread.join(20) for thread in threads])
    assert found == {i: [2 * f"{i}-{j}" for j in range(20)] for i in range(5)}


def test_an_error_frees_its_encoder_at_once():
    """No reference cycle through a traceback and a future."""

    class Embedder:
        def embed(self, texts):
            raise ValueError(texts)

    embedder, awaited = Embedder(), Awaited()

    async def call(embed):
        try:
            await awaited("a", embed)
        except ValueError as error:
            assert error.args == (["a"],)  # noqa: PT017 (pytest.raises would hold the error)
        await awaited("a", doubled)  # the thread has let go of the text before

    gone = weakref.ref(embedder)
    gc.disable()
    try:
        asyncio.run(call(embedder.embed))
        del embedder
        assert gone() is None
    finally:
        gc.enable()


# --- several texts in one call ----------------------------------------------------------------------------------------


class Recorder:
    """Doubles texts, and remembers its batches. The first ones wait until ``go`` is set."""

    def __init__(self):
        self.batches, self.go = [], threading.Event()

    def __call__(self, texts):
        self.batches.append(list(texts))
        assert self.go.wait(20)
        return doubled(texts)

    async def running(self, task):
        """The task, once its first batch runs."""
        while not self.batches:
            await asyncio.sleep(0.001)
        return task


async def test_several_texts_have_their_vectors_in_their_order():
    embed = Recorder()
    embed.go.set()
    assert await Awaited().several(["a", "b", "a"], embed) == ["aa", "bb", "aa"]
    assert embed.batches == [["a", "b", "a"]]
    assert await Awaited().several([], embed) == []
    assert len(embed.batches) == 1


async def test_a_single_text_does_not_wait_for_a_long_list():
    awaited, embed = Awaited(), Recorder()
    texts = [f"{i}" for i in range(60)]
    long = await embed.running(asyncio.create_task(awaited.several(texts, embed, sizes=[1024] * 60)))
    query = asyncio.create_task(awaited("query", embed))
    await asyncio.sleep(0)
    embed.go.set()
    assert await within_seconds(query) == "queryquery"
    assert await within_seconds(long) == doubled(texts)
    assert embed.batches[0] == texts[:4]
    assert "query" in embed.batches[1]
    assert len(embed.batches) > 2  # the list was not done then


async def test_lists_take_turns_text_by_text():
    awaited, embed = Awaited(), Recorder()
    lists = [[f"{name}{i}" for i in range(length)] for name, length in (("a", 6), ("b", 2), ("c", 4))]
    busy = await embed.running(asyncio.create_task(awaited("first", embed)))
    calls = asyncio.gather(*(awaited.several(one, embed, sizes=[1024] * 9) for one in lists))
    await asyncio.sleep(0)
    embed.go.set()
    assert await within_seconds(calls) == [doubled(one) for one in lists]
    assert embed.batches[1] == ["a0", "a1", "b0", "c0"]
    assert await busy == "firstfirst"


async def test_a_list_whose_caller_is_cancelled_costs_no_further_batch():
    awaited, embed = Awaited(), Recorder()
    long = await embed.running(asyncio.create_task(awaited.several(["x"] * 64, embed, sizes=[1024] * 64)))
    other = asyncio.create_task(awaited("y", embed))
    long.cancel()
    await asyncio.sleep(0)
    embed.go.set()
    assert await within_seconds(other) == "yy"
    assert embed.batches == [["x"] * 4, ["y"]]


async def test_a_list_at_fault_fails_alone_and_at_its_first_batch():
    def embed(texts):
        recorder(texts)
        if "bad" in texts:
            raise ValueError("no")
        return doubled(texts)

    awaited, recorder = Awaited(), Recorder()
    busy = await recorder.running(asyncio.create_task(awaited("first", recorder)))
    calls = asyncio.gather(
        awaited.several(["bad", "c", "d"], embed, "key", [2048] * 3),
        awaited.several(["a", "b"], embed, "key"),
        return_exceptions=True,
    )
    await asyncio.sleep(0)
    recorder.go.set()
    bad, good = await within_seconds(calls)
    assert (str(bad), good) == ("no", ["aa", "bb"])
    assert recorder.batches == [["first"], ["bad", "c", "a"], ["bad", "c"], ["a"], ["b"]]
    assert await busy == "firstfirst"


def test_batches_of_a_busy_queue_take_about_half_a_second():
    sizes, awaited = [], Awaited()
    for seconds in (0.01, 0.1, 0.3, 0.9, 1.1, 20, 20, 20, 20, 20, 20):
        awaited._adapt(seconds)
        sizes.append(awaited._most)
    assert sizes == [8192, 16384, 16384, 16384, 8192, 4096, 2048, 1024, 512, 256, 256]


async def test_only_full_batches_tell_how_large_one_should_be():
    awaited = Awaited()
    await within_seconds(awaited.several(["a"] * 3, doubled))
    assert awaited._most == 4096
    await within_seconds(awaited.several(["a", "b"], doubled, sizes=[4096, 1]))
    assert awaited._most == 8192


# --- the thread -------------------------------------------------------------------------------------------------------


async def test_lone_texts_share_a_thread_which_ends_with_the_queue():
    """A new thread for each text would begin with starting OpenMP's threads."""
    awaited, threads = Awaited(), []

    def embed(texts):
        threads.append(threading.current_thread())
        return doubled(texts)

    for text in "abc":
        assert await within_seconds(awaited(text, embed)) == 2 * text
        await asyncio.sleep(0.01)
    assert len(set(threads)) == 1
    del awaited
    threads[0].join(20)
    assert not threads[0].is_alive()


def test_a_thread_that_waits_for_texts_holds_up_no_exit():
    script = """
import asyncio
from echo_embeddings.engine.awaited import Awaited
awaited = Awaited()
print(asyncio.run(awaited("a", lambda texts: [2 * text for text in texts])))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "aa\n"
