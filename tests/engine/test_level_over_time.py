"""Nothing grows with the number of calls: memory, threads, descriptors, objects."""

import asyncio
import gc
import os
import threading
import time
import weakref
from collections import Counter
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from echo_embeddings import EchoConfig, EchoEncoder, NumericalError, Template
from tests.architectures import tiny

CALLS = 1000
CONFIG = EchoConfig("{text}\n{text}", Template("{instruction}:\n{text}\n{text}"), max_length=20)
CONFIGS = [CONFIG.replace(max_length=length, pooling=pooling) for length in (10, 15) for pooling in ("mean", "last")]

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells them")


@pytest.fixture(scope="module")
def encoder(builtin_folder, tmp_path_factory):
    path, tokenizer = tmp_path_factory.mktemp("tiny"), AutoTokenizer.from_pretrained(builtin_folder)
    model = tiny("llama", vocab_size=len(tokenizer), num_hidden_layers=2)
    model.embed_tokens.weight.data[tokenizer("ferry", add_special_tokens=False).input_ids[0]] = float("nan")
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return EchoEncoder(path, CONFIG, dtype="float32", on_truncate="ignore")


def a_call(encoder, i):
    """One of the ways to call an encoder. Text and instruction are new each time."""
    text, instruction = f"text number {i}", f"Find number {i}"
    ways = [
        lambda: encoder.encode_documents([text, "another", text]),
        lambda: encoder.encode_queries(text, instruction=instruction),
        lambda: list(encoder.stream_documents([text] * 3, chunk=2)),
        lambda: encoder.encode_tokens(text),
        lambda: encoder.with_config(CONFIGS[i % len(CONFIGS)]).encode_documents(text),
        lambda: asyncio.run(several_awaited(encoder, text, instruction)),
        lambda: asyncio.run(cancelled(encoder, text)),
        lambda: in_threads(encoder, text),
        lambda: fails(encoder, text),
        lambda: encoder.encode_documents([" ".join([text] * 20)]),
    ]
    return ways[i % len(ways)]()


async def several_awaited(encoder, text, instruction):
    single = [encoder.aencode_queries(f"{text} {i}", instruction=f"{instruction} {i}") for i in range(3)]
    return await asyncio.gather(*single, encoder.aencode_documents(text), encoder.aencode_documents([text, "b"]))


async def cancelled(encoder, text):
    tasks = [asyncio.create_task(encoder.aencode_documents(f"{text} {i}")) for i in range(4)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


def in_threads(encoder, text):
    threads = [threading.Thread(target=encoder.encode_documents, args=(f"{text} {i}",)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def fails(encoder, text):
    with pytest.raises(NumericalError):
        encoder.encode_documents([text, "ferry"])
    with pytest.raises(NumericalError):
        asyncio.run(encoder.aencode_documents(f"ferry {text}"))
    with pytest.raises(TypeError):
        encoder.encode_documents([text, None])


def level():
    """Resident memory in MB, and numbers of threads, descriptors and objects of each of our classes."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    kinds = map(type, gc.get_objects())
    ours = Counter(kind.__name__ for kind in kinds if str(kind.__module__).startswith("echo_embeddings"))
    return resident, threading.active_count(), len(list(Path("/proc/self/fd").iterdir())), ours


@pytest.mark.parametrize("calls", [300, pytest.param(CALLS, marks=pytest.mark.slow)])
def test_memory_threads_and_descriptors_stay_level_over_many_mixed_calls(encoder, calls):
    for i in range(200):  # then the 64 layouts that are kept are there
        a_call(encoder, i)
    resident, threads, descriptors, ours = level()
    for i in range(calls):
        a_call(encoder, 200 + i)
    after = level()
    assert after[1:3] == (threads, descriptors)
    grown = {name: count - ours[name] for name, count in after[3].items() if count > ours[name] + 20}
    assert not grown
    # 10 KB for each call would be seen; of few calls, 30.
    assert after[0] - resident < 10


@pytest.mark.parametrize("used", ["not at all", "in all ways"])
def test_weights_are_freed_with_their_encoder_at_once(encoder, used):
    """Without a collection of reference cycles: so the next model does not meet this one in memory."""
    other = EchoEncoder.from_options(encoder.options)
    weights = weakref.ref(other.runtime.backbone.model.get_input_embeddings())
    gc.collect()
    gc.disable()
    try:
        for i in range(10 if used == "in all ways" else 0):
            if i != 8:  # an error that was raised is another matter: pytest keeps it
                a_call(other, i)
        until = time.monotonic() + 20  # a thread may have to let go of the last awaited text
        del other
        while weights() is not None and time.monotonic() < until:
            time.sleep(0.01)
        assert weights() is None
    finally:
        gc.enable()
