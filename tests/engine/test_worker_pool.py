"""Several devices, by two processes on the processor with a tiny real model."""

import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from echo_embeddings import (
    ConfigError,
    EchoConfig,
    EchoEncoder,
    ModelError,
    NumericalError,
    Truncate,
    TruncationError,
    TruncationWarning,
    WindowWarning,
    WorkerError,
)
from echo_embeddings.engine.worker_pool import _pieces
from tests import processes
from tests.architectures import tiny
from tests.conftest import cosines

CONFIG = EchoConfig("{text}\n{text}", "{instruction}:\n{text}\n{text}", max_length=19)
DEVICES = ["cpu", "cpu"]
# Some hundred texts of up to 19 tokens: enough for a dozen pieces. "ferry" is for the test of NaN.
MANY = [f"{i}" + " boats" * (1 + i * 7 % 12) for i in range(500)]
LONG = "one two three four five six seven eight nine ten " * 3


@pytest.fixture(scope="module")
def folder(builtin_folder, tmp_path_factory):
    """A model with a sliding window of 40 tokens, which gives NaN for "ferry"."""
    path = tmp_path_factory.mktemp("tiny")
    model, tokenizer = (
        tiny("mistral-window", sliding_window=40, vocab_size=49152),
        AutoTokenizer.from_pretrained(builtin_folder),
    )
    (bad,) = tokenizer("ferry", add_special_tokens=False).input_ids[:1]
    model.embed_tokens.weight.data[bad] = float("nan")
    whole = AutoModelForCausalLM.from_config(model.config)  # with its output matrix, which has no NaN
    whole.model = model
    whole.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def single(folder):
    return EchoEncoder(folder, CONFIG, dtype="float32", on_truncate="ignore")


@pytest.fixture(scope="module")
def double(folder):
    with EchoEncoder(folder, CONFIG, dtype="float32", devices=DEVICES) as encoder:
        yield encoder


def children():
    return {process.pid for process in multiprocessing.active_children()}


def ended(pids, seconds=20):
    """Whether processes, of this process or of another, end soon."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        # Reaps those of this process; one that a worker's thread reaps is listed for a moment longer than it is there.
        listed = children()
        if not any(is_running(pid) or pid in listed for pid in pids):
            return True
        time.sleep(0.05)
    return False


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Where nobody reaps orphans, one that has ended stays as a zombie.
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(status.stdout.strip()) and not status.stdout.startswith("Z")


# --- vectors ----------------------------------------------------------------------------------------------------------


def test_vectors_are_those_of_one_device_in_the_callers_order(single, double):
    texts = MANY + MANY[::-1]
    vectors = double.encode_documents(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(texts), single.dimension)
    assert cosines(vectors, single.encode_documents(texts)).min() >= 0.9999
    np.testing.assert_array_equal(vectors[: len(MANY)], vectors[len(MANY) :][::-1])


def test_vectors_of_chunks_are_those_of_one_device(single, double, folder):
    documents = [LONG * 3, "", "A", *MANY[:70]]
    spans = [[(0, 8), (4, 4), (100, 400), (0, len(LONG) * 3)], [], [(0, 1)], *([(0, 4)] for _ in MANY[:70])]
    found, wanted = (one.encode_chunks(documents, spans) for one in (double, single))
    assert [len(one) for one in found] == [len(one) for one in spans]
    assert cosines(np.concatenate(found), np.concatenate(wanted)).min() >= 0.9999


@pytest.mark.slow  # it starts workers of its own; test_chunks.py has the same on one device
def test_long_texts_are_split_on_several_devices(single, folder):
    documents = [LONG * 3, "", "A", *MANY[:70]]
    splits = {"config": CONFIG, "dtype": "float32", "on_truncate": "split"}
    with EchoEncoder(folder, devices=DEVICES, **splits) as several:
        vectors = several.encode_documents(documents), EchoEncoder(folder, **splits).encode_documents(documents)
        assert cosines(*vectors).min() >= 0.9999
        tokens = several.encode_tokens(LONG)
        assert len(tokens.tokens) == len(tokens.vectors) == single.count_tokens(LONG)[0] > 19


def test_one_text_gives_one_row_and_none_gives_none(single, double):
    assert cosines(double.encode_documents("a text")[None], single.encode_documents(["a text"])).min() >= 0.9999
    assert double.encode_documents([]).shape == (0, single.dimension)


def test_queries_have_their_template_and_instruction(single, double):
    queries = double.encode_queries(MANY[:20], instruction="Find")
    assert cosines(queries, single.encode_queries(MANY[:20], instruction="Find")).min() >= 0.9999
    assert cosines(queries, double.encode_documents(MANY[:20])).max() < 0.999


def test_a_stream_equals_the_list(single, double):
    streamed = list(double.stream_documents(iter(MANY[:150]), chunk=64))
    assert cosines(np.stack(streamed), single.encode_documents(MANY[:150])).min() >= 0.9999


def test_progress_is_told_in_the_callers_thread(double):
    told = []
    double.encode_documents([*MANY, MANY[0]], show_progress=lambda n: told.append((n, threading.current_thread())))
    assert sum(n for n, _ in told) == len(MANY) + 1
    assert {thread for _, thread in told} == {threading.current_thread()}


def test_threads_get_the_same_vectors(single, double):
    expected, results = single.encode_documents(MANY), {}

    def work(i):
        results[i] = double.encode_documents(MANY)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        assert cosines(results[i], expected).min() >= 0.9999


def test_other_configs_of_the_same_layers_share_the_workers(single, double):
    double.encode_documents("they run")
    before = children()
    fitted = double.fit_transforms(MANY, ["standardize", Truncate(8)])
    expected = single.fit_transforms(MANY, ["standardize", Truncate(8)])
    vectors = fitted.encode_documents(MANY)
    assert cosines(vectors, expected.encode_documents(MANY)).min() >= 0.9999
    assert double.encode_documents(MANY).shape[1] == single.dimension
    assert children() == before


# --- truncation, errors, warnings -------------------------------------------------------------------------------------


def test_truncation_warns_once_with_numbers_at_the_callers_line(folder, double):
    before = double.truncated
    with pytest.warns(
        TruncationWarning, match=r"2 text\(s\) were truncated to max_length=19 tokens; 2[0-9] tokens"
    ) as seen:
        double.encode_documents([LONG, *MANY[:200], LONG + "!", LONG])
    assert len(seen) == 1
    assert seen[0].filename == __file__
    assert double.truncated.texts - before.texts == seen[0].message.texts == 2


def test_nan_names_the_text(double):
    with pytest.raises(NumericalError, match=r"texts, among them 'ferry'; it ran in torch.float32") as caught:
        double.encode_documents([*MANY, "ferry"])
    assert "in a worker process:\nTraceback" in str(caught.value.__cause__)


def test_an_error_of_a_worker_is_that_of_one_device(single, double):
    for encoder in (single, double):
        with pytest.raises(ConfigError, match="needs an instruction"):
            encoder.encode_queries(MANY)


def test_a_model_that_cannot_be_loaded_says_why():
    encoder = EchoEncoder("/no/such/folder", "echo", devices=DEVICES)
    with encoder, pytest.raises(ModelError, match="there is no folder '/no/such/folder'; give the path of a saved"):
        encoder.encode_documents(MANY)


def test_what_is_no_text_names_its_position(double):
    with pytest.raises(TypeError, match=r"texts\[5\] is NoneType"):
        list(double.stream_documents(["a"] * 5 + [None], chunk=2))


def test_a_sliding_window_is_warned_of_once(double):
    wider = double.with_config(CONFIG.replace(max_length=30))
    with pytest.warns(WindowWarning, match="looks back at most 40 tokens: in texts of 20 tokens or more") as seen:
        wider.encode_documents(MANY)
    assert len(seen) == 1
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wider.encode_documents(MANY)


# --- the life of the workers ------------------------------------------------------------------------------------------


def test_a_call_that_is_broken_off_leaves_the_workers_to_the_next(single, double):
    def stop(_):
        raise KeyboardInterrupt

    double.encode_documents("they run")
    before = children()
    with pytest.raises(KeyboardInterrupt):
        double.encode_documents(MANY, show_progress=stop)
    assert cosines(double.encode_documents(MANY), single.encode_documents(MANY)).min() >= 0.9999
    assert children() == before


def test_a_dead_worker_is_an_error_and_the_next_call_starts_another(single, double):
    double.encode_documents("they run")
    before = children()

    def kill(_):
        if children() == before:
            os.kill(min(before), signal.SIGKILL)

    message = r"on device 'cpu' ended with exit code -9 \(SIGKILL\) before its work was done; often that is memory"
    with pytest.raises(WorkerError, match=message):
        double.encode_documents(MANY, show_progress=kill)
    assert cosines(double.encode_documents(MANY), single.encode_documents(MANY)).min() >= 0.9999
    assert len(children()) == 2
    assert children() & before == {max(before)}


def test_a_copy_starts_workers_late_with_its_own_policy_and_ends_them(folder, single, double, monkeypatch):
    """Its parent loads no weights: it tells workers what to load, fresh processes in which nothing is patched."""
    double.encode_documents("they run")
    expected, expected_tokens = single.encode_documents(MANY), single.encode_tokens(["one two", "three"])

    def fail(*_):
        pytest.fail("weights are loaded in the parent")

    monkeypatch.setattr("echo_embeddings.model.loading.load", fail)
    monkeypatch.setattr("echo_embeddings.engine.engine.load", fail)
    others, told = children(), []
    encoder = EchoEncoder(folder, CONFIG, dtype="float32", devices=DEVICES, on_truncate="error")
    pickled = pickle.dumps(encoder)
    assert len(pickled) < 10_000
    copy = pickle.loads(pickled)
    assert copy.fingerprint() == encoder.fingerprint() == single.fingerprint()
    assert repr(copy) == repr(encoder) == repr(single)
    assert children() == others

    message = r"2 text\(s\) are longer than max_length=19 tokens; the first has [0-9]+: 'one two .* Split it"
    with pytest.raises(TruncationError, match=message) as caught:
        copy.encode_documents([*MANY[:200], LONG, LONG + "!"], show_progress=told.append)
    assert caught.value.texts == 2
    assert told == []
    assert cosines(copy.encode_documents(MANY), expected).min() >= 0.9999

    assert (copy.dimension, copy.max_length) == (single.dimension, single.max_length)
    assert copy.count_tokens(["one two", "a"]) == single.count_tokens(["one two", "a"])
    for found, wanted in zip(copy.encode_tokens(["one two", "three"]), expected_tokens, strict=True):
        assert found.tokens == wanted.tokens
        np.testing.assert_array_equal(found.offsets, wanted.offsets)
        assert cosines(found.vectors, wanted.vectors).min() >= 0.9999
    assert "devices" in copy.describe()
    half = copy.fit_transforms([], ["embed-filter"])
    assert half.encode_documents("one").shape == (copy.dimension // 2,)

    own = children() - others
    assert len(own) == 2
    del copy, caught, half
    gc.collect()
    assert ended(own)
    assert children() == others


def test_closing_ends_the_workers_and_a_call_in_the_middle_and_a_later_call_starts_them_again(single, double):
    """Closed between calls, by the call itself while it tells its progress, and by another thread."""
    double.encode_documents("they run")
    before = children()
    double.close()
    assert not children() & before
    double.close()
    closed = children()
    with pytest.raises(WorkerError, match="the encoder was closed in the middle of this call"):
        double.encode_documents(MANY, show_progress=lambda _: double.close())
    assert children() == closed
    assert cosines(double.encode_documents(MANY), single.encode_documents(MANY)).min() >= 0.9999
    began, caught = threading.Event(), []

    def embed():
        texts = [f"{text} {i}" for text in MANY for i in range(20)]
        with pytest.raises(WorkerError, match="the encoder was closed in the middle of this call") as error:
            double.encode_documents(texts, show_progress=lambda _: began.set())
        caught.append(error.value)

    thread = threading.Thread(target=embed)
    thread.start()
    began.wait()
    double.close()
    assert children() == closed
    thread.join(20)
    assert len(caught) == 1
    assert children() == closed


def test_one_device_needs_no_worker(folder, single):
    before = children()
    with EchoEncoder(folder, CONFIG, dtype="float32", devices=["cpu"]) as encoder:
        np.testing.assert_array_equal(encoder.encode_documents(MANY[:9]), single.encode_documents(MANY[:9]))
    assert children() == before


SCRIPT = """
import multiprocessing, os, signal, sys
from echo_embeddings import EchoConfig, EchoEncoder

def main():
    encoder = EchoEncoder(sys.argv[1], EchoConfig("{text}\\n{text}"), devices=["cpu", "cpu"])
    print(encoder.encode_documents(["a", "b"]).shape, *(p.pid for p in multiprocessing.active_children()), flush=True)
    if sys.argv[2:] == ["killed"]:
        os.kill(os.getpid(), signal.SIGKILL)
"""


# Its workers import the script by its path, as those of a script in a fresh process do.
RUN = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"


def run(tmp_path, script, *arguments):
    path = tmp_path / "script.py"
    path.write_text(script)
    return processes.run(RUN, path, *arguments, cwd=tmp_path)


# Of one that is killed, test_worker.py shows the same with workers that start in no time.
@pytest.mark.parametrize("end", ["left", pytest.param("killed", marks=pytest.mark.slow)])
def test_workers_do_not_outlive_their_script(folder, tmp_path, end):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT + 'if __name__ == "__main__":\n    main()\n')
    command = [sys.executable, path, folder, end]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    assert done.returncode == (-9 if end == "killed" else 0), done.stderr
    assert "(2, 32)" in done.stdout
    assert "Traceback" not in done.stderr
    assert "resource_tracker" not in done.stderr  # nor does it say that semaphores were leaked
    pids = [int(pid) for pid in done.stdout.split(")")[1].split()]
    assert len(pids) == 2
    assert ended(pids)


def test_a_script_without_a_main_guard_is_told_to_have_one(folder, tmp_path):
    """As arguments of a process that ends before it reads them, a config larger than a pipe would block the parent."""
    assert len(pickle.dumps(EchoConfig.preset("any-model"))) > 2**17
    large = SCRIPT.replace('EchoConfig("{text}\\n{text}")', 'EchoConfig.preset("any-model")')
    assert large != SCRIPT
    done = run(tmp_path, large + "main()\n", folder)
    assert done.returncode == 1
    assert "WorkerError: a worker process imports the script that is running, and this" in done.stderr
    assert 'if __name__ == "__main__":' in done.stderr
    assert done.stderr.count("Traceback") == 1


AWAITS = """
import asyncio, sys
from echo_embeddings import EchoConfig, EchoEncoder
encoder = EchoEncoder(sys.argv[1], EchoConfig("{text}\\n{text}"), devices=["cpu", "cpu"])
print(asyncio.run(encoder.aencode_documents("a")))
"""
IN_A_THREAD = """
import sys, threading
from echo_embeddings import EchoConfig, EchoEncoder
encoder = EchoEncoder(sys.argv[1], EchoConfig("{text}\\n{text}"), devices=["cpu", "cpu"])
def embed():
    try:
        encoder.encode_documents("a")
    except BaseException as error:
        print(error)
        raise
thread = threading.Thread(target=embed)
thread.start()
thread.join()
"""


@pytest.mark.parametrize(
    "script", [AWAITS, pytest.param(IN_A_THREAD, marks=pytest.mark.slow)], ids=["awaits", "thread"]
)
def test_so_it_is_if_it_does_not_embed_in_its_main_thread(folder, tmp_path, script):
    """There an exception of the worker's would be lost, or caught."""
    done = run(tmp_path, script, folder)
    assert "WorkerError: a worker process imports the script that is running, and this script" in done.stderr


IMPORTS_NONSENSE = """
import sys
from echo_embeddings import EchoConfig, EchoEncoder
if __name__ != "__main__":
    import no_such_module
if __name__ == "__main__":
    EchoEncoder(sys.argv[1], EchoConfig("{text}\\n{text}"), devices=["cpu", "cpu"]).encode_documents("a")
"""


def test_a_worker_that_fails_while_it_imports_says_so(folder, tmp_path):
    done = run(tmp_path, IMPORTS_NONSENSE, folder)
    assert "WorkerError: the worker process on device 'cpu' ended with exit code 1 before its work" in done.stderr
    assert "ModuleNotFoundError: No module named 'no_such_module'" in done.stderr


def _embed_in_a_child(folder, answers):
    try:
        EchoEncoder(folder, CONFIG, devices=DEVICES).encode_documents("a")
    except WorkerError as error:
        answers.put(str(error))


def test_a_daemonic_process_is_told_to_use_one_device(folder):
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=_embed_in_a_child, args=(folder, answers), daemon=True)
    process.start()
    process.join()
    assert "give this encoder one device" in answers.get()


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"devices": []}, ConfigError, r"devices=\[\] names no device; give \['cuda:0', 'cuda:1'\]"),
        ({"devices": "cpu"}, TypeError, "devices must be a list such as .* not 'cpu'; one goes in as device="),
        ({"devices": 2}, TypeError, "devices must be a list .* not 2"),
        ({"devices": ["cpu", 0]}, TypeError, r"devices\[1\] is int \(0\), not a string"),
        ({"devices": ["cpu", "gpu"]}, ConfigError, r"devices\[1\]='gpu' is unknown: .*; use 'cpu', 'mps'"),
        ({"devices": ["cuda:77"]}, ConfigError, r"devices\[0\]='cuda:77' is not there: torch finds [0-9]+ CUDA"),
        ({"devices": DEVICES, "device": "cpu"}, ConfigError, "and device='cpu' both say where the model runs"),
        ({"devices": DEVICES, "model_kwargs": {"device_map": "auto"}}, ConfigError, "and device_map both say"),
        ({"devices": DEVICES, "model": object(), "tokenizer": 1}, TypeError, "cannot do so with a loaded one; use"),
    ],
)
def test_wrong_devices_are_refused_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        EchoEncoder(**arguments)


# --- pieces -----------------------------------------------------------------------------------------------------------


def test_pieces_hold_each_text_once_longest_first_and_shrink():
    costs = [1 + i * 7919 % 200 for i in range(3000)]
    pieces = _pieces(costs, 2, least=1000)
    assert sorted(i for piece in pieces for i in piece) == list(range(3000))
    in_order = [costs[i] for piece in pieces for i in piece]
    assert in_order == sorted(costs, reverse=True)
    totals = [sum(costs[i] for i in piece) for piece in pieces]
    assert totals[0] <= sum(costs) / 4
    assert totals[0] > 10 * totals[-1]


def test_few_texts_are_one_piece_and_a_long_one_is_its_own():
    assert _pieces([5, 9, 7], 4, least=100) == [[1, 2, 0]]
    assert _pieces([500, 9, 7], 4, least=100) == [[0], [1, 2]]
    assert _pieces([], 4, least=100) == []
