"""A process forked from one that used an encoder: it embeds, or raises an error at once; it never waits for ever."""

import asyncio
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from echo_embeddings import EchoConfig, EchoEncoder, WorkerError, forking
from tests.architectures import tiny, word_tokenizer
from tests.conftest import cosines
from tests.forks import Background, forked

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no process forks here")

# Enough tokens that torch shares an operation among threads.
TEXTS = [f"{i}" + " boats" * 40 for i in range(64)]
CONFIG = EchoConfig("{text}\n{text}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path, tokenizer = tmp_path_factory.mktemp("tiny"), word_tokenizer([*TEXTS, "a boat", "a bird"])
    tiny("llama", vocab_size=len(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module", autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.ones(2_000_000).exp()  # GNU's OpenMP keeps the second thread from here on
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def encoder(folder):
    return EchoEncoder(folder, CONFIG, dtype="float32")


@pytest.fixture(scope="module")
def expected(encoder):
    return encoder.encode_documents(TEXTS)


def encodes(encoder):
    return encoder.encode_documents(TEXTS)


def awaits(encoder):
    async def all_of_them():
        single = await asyncio.gather(*map(encoder.aencode_documents, TEXTS[:32]))
        return np.concatenate([np.stack(single), await encoder.aencode_documents(TEXTS[32:])])

    return asyncio.run(all_of_them())


WAYS = [encodes, awaits]


@pytest.mark.parametrize("way", WAYS)
def test_before_the_model_is_loaded(folder, expected, way):
    encoder = EchoEncoder(folder, CONFIG, dtype="float32")
    assert cosines(forked(lambda: way(encoder)), expected).min() > 0.9999


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("used_by", WAYS)
def test_after_it_was_used(encoder, expected, used_by, way):
    used_by(encoder)
    assert cosines(forked(lambda: way(encoder)), expected).min() > 0.9999
    assert cosines(encodes(encoder), expected).min() > 0.9999  # the parent goes on


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("used_by", WAYS)
def test_while_other_threads_use_it(encoder, expected, used_by, way):
    with Background(lambda: used_by(encoder)), Background(lambda: encodes(encoder)):
        for _ in range(3):
            assert cosines(forked(lambda: way(encoder)), expected).min() > 0.9999


@pytest.mark.parametrize("way", WAYS)
def test_while_another_thread_loads_it(folder, expected, way):
    encoder = EchoEncoder(folder, CONFIG, dtype="float32")
    thread = threading.Thread(target=encoder.encode_documents, args=("a",))
    thread.start()
    time.sleep(0.05)
    found = forked(lambda: way(encoder))
    thread.join()
    assert cosines(found, expected).min() > 0.9999


def test_a_fork_of_a_fork(encoder, expected):
    encodes(encoder)
    found = forked(lambda: (encodes(encoder), forked(lambda: encodes(encoder)))[1])
    assert cosines(found, expected).min() > 0.9999


def test_torch_keeps_all_its_threads(encoder):
    encodes(encoder)
    assert forked(lambda: (torch.ones(2_000_000).exp().sum(), torch.get_num_threads())[1]) == 2


def test_where_its_threads_cannot_be_given_up_it_uses_one(encoder, expected, monkeypatch):
    monkeypatch.setattr(forking, "_pauses", lambda: [None])
    encodes(encoder)
    vectors, threads = forked(lambda: (encodes(encoder), torch.get_num_threads()))
    assert threads == 1
    assert cosines(vectors, expected).min() > 0.9999


def test_a_server_that_leaves_out_what_comes_before_a_fork(encoder, expected, monkeypatch):
    """uWSGI calls only what comes after it."""
    monkeypatch.setattr(forking, "_PATIENCE", 0.0)
    encodes(encoder)

    def there():
        forking._in_child()
        return encodes(encoder), torch.get_num_threads()

    vectors, threads = forked(there)
    assert threads == 1
    assert cosines(vectors, expected).min() > 0.9999


def test_a_text_in_flight_where_the_event_loop_goes_on_in_the_fork(encoder):
    async def fork_meanwhile():
        awaited = [asyncio.create_task(encoder.aencode_documents(text)) for text in TEXTS]
        await asyncio.sleep(0.02)
        if (pid := os.fork()) == 0:
            signal.alarm(60)
            found = await asyncio.gather(*awaited, return_exceptions=True)
            errors = [one for one in found if isinstance(one, WorkerError)]
            clear = all("this process was forked while another thread embedded" in str(error) for error in errors)
            os._exit(0 if errors and clear else 1)
        found = await asyncio.gather(*awaited)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), len(found)

    assert asyncio.run(fork_meanwhile()) == (0, len(TEXTS))


def test_in_the_middle_of_a_call(encoder, monkeypatch):
    """Where chunks of texts are tokenised ahead by a thread."""
    monkeypatch.setattr("echo_embeddings.text.inputs.CHUNK", 16)
    parent = os.getpid()

    def fork(_):
        nonlocal children
        if os.getpid() == parent and not children:
            pid = os.fork()
            children = [pid] if pid else []
            signal.alarm(0 if pid else 60)

    children = []
    vectors = encoder.encode_documents(TEXTS, show_progress=fork)
    if os.getpid() != parent:
        os._exit(0 if vectors.shape == (64, 32) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0


def test_a_lock_that_is_never_free_is_an_error_in_the_fork(encoder, monkeypatch):
    monkeypatch.setattr(forking, "_PATIENCE", 0.2)
    lock, over = forking.ForkLock("was painting"), threading.Event()

    def hold():
        with lock:
            over.wait()

    def take():
        with (
            pytest.raises(WorkerError, match="forked while another thread was painting, and that thread does not"),
            lock,
        ):
            pass
        return "refused"

    thread = threading.Thread(target=hold)
    thread.start()
    time.sleep(0.05)
    try:
        assert forked(take) == "refused"
    finally:
        over.set()
        thread.join()
    with lock:  # the parent goes on
        pass


def test_two_threads_that_fork_at_once(encoder):
    found = []

    def fork():
        for _ in range(5):
            found.append(forked(lambda: 1))

    threads = [threading.Thread(target=fork) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [1] * 20
    assert forked(lambda: len(encodes(encoder))) == len(TEXTS)


def test_locks_and_queues_are_forgotten_with_their_encoder(folder):
    gc.collect()  # of the tests before
    before = len(forking._locks), len(forking._owners)
    encoder = EchoEncoder(folder, CONFIG, dtype="float32")
    encoder.encode_documents("a")
    assert len(forking._locks) > before[0]
    del encoder
    assert (len(forking._locks), len(forking._owners)) == before


def test_a_model_on_a_gpu_is_refused_in_a_fork(folder, monkeypatch):
    encoder = EchoEncoder(folder, CONFIG, dtype="float32")
    runtime = encoder.runtime
    monkeypatch.setattr(type(runtime.backbone), "device", torch.device("cuda:0"))

    def encode():
        message = "after the model was loaded on cuda:0, and a forked process cannot use"
        with pytest.raises(WorkerError, match=message), runtime.alone():
            pass
        return "refused"

    with runtime.alone():
        pass
    assert forked(encode) == "refused"


POOLS = """
import multiprocessing, sys
import numpy as np
import torch
from echo_embeddings import EchoConfig, EchoEncoder

encoder = EchoEncoder(sys.argv[1], EchoConfig("{text}\\n{text}"), dtype="float32")
TEXTS = ["a boat", "a bird"]

def embed(text):
    return encoder.encode_documents(text)

def of_it(pickled):
    return pickled.encode_documents(TEXTS)

if __name__ == "__main__":
    torch.set_num_threads(2)
    torch.ones(2_000_000).exp()
    expected = encoder.encode_documents(TEXTS)
    if sys.argv[2] == "forkserver":
        multiprocessing.set_forkserver_preload(["__main__"])
    with multiprocessing.get_context(sys.argv[2]).Pool(1) as pool:
        found = np.stack(pool.map_async(embed, TEXTS).get(timeout=100))
        assert np.allclose(found, expected, atol=1e-5)
        found = pool.apply_async(of_it, (encoder,)).get(timeout=100)
        assert np.allclose(found, expected, atol=1e-5)
    print("all is well")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_every_way_to_start_processes(folder, tmp_path, method):
    (tmp_path / "script.py").write_text(POOLS)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", folder, method],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout == "all is well\n", done.stderr


def test_a_pickled_encoder_takes_no_lock_along(encoder):
    assert pickle.loads(pickle.dumps(encoder)).config == encoder.config
