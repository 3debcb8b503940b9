"""The life of a worker process, transition by transition, with processes that end or hang at every moment."""

import multiprocessing
import os
import pickle
import signal
import threading
import time
from pathlib import Path

import pytest

from echo_embeddings import EchoConfig, WorkerError
from echo_embeddings.engine import worker as module
from echo_embeddings.engine.worker import Call, Setup, State, Worker
from echo_embeddings.engine.worker_pool import WorkerPool
from echo_embeddings.model.spec import ModelSpec
from echo_embeddings.options import EncoderOptions
from tests.engine import misbehaving

ECHO = EchoConfig("{text}\n{text}")
# More than a pipe takes at once, as a config with fitted arrays is.
LARGE = EncoderOptions(model_kwargs={"note": "x" * 2**20})
SECONDS = 30  # a process needs some of them to start on a busy machine


@pytest.fixture
def behave(monkeypatch, tmp_path):
    """``behave(how)`` says how a process behaves that starts from now on."""
    monkeypatch.setattr(module, "_work", misbehaving.work)

    def set_(how):
        (tmp_path / "behaviour").write_text(how)
        monkeypatch.setenv("MISBEHAVES", how)

    set_("well")
    return set_


@pytest.fixture
def worker(behave, tmp_path):
    before = children()
    worker = Worker(setup(tmp_path))
    yield worker
    worker.close()
    assert worker.state is State.CLOSED
    assert children() == before


def setup(tmp_path, options=LARGE):
    return Setup(ModelSpec(str(tmp_path / "behaviour"), device="cpu"), ECHO, options, 1, shows_bars=False)


def children():
    return {process.pid for process in multiprocessing.active_children()}


def do(worker, *arguments, call=None):
    return worker.do(call or Call(ECHO), 0, "ask", arguments)


class InThread:
    """Calls a function in a thread; ``result()`` gives what it returns or raises."""

    def __init__(self, function):
        self._thread = threading.Thread(target=self._run, args=(function,))
        self._thread.start()

    def _run(self, function):
        try:
            self._value, self._error = function(), None
        except BaseException as error:  # noqa: BLE001 (raised in result)
            self._error = error

    def result(self, seconds=SECONDS):
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"it does not end within {seconds} s"
        if self._error is not None:
            raise self._error
        return self._value


def test_absent_becomes_idle(worker):
    assert worker.state is State.ABSENT
    worker.start()
    assert worker.state is State.IDLE
    process = children()
    worker.start()
    assert (len(process), children()) == (1, process)
    assert do(worker, 1) == ("ask", 1)
    assert children() == process


def test_absent_becomes_busy_and_idle(worker):
    assert worker.state is State.ABSENT
    assert do(worker, 1) == ("ask", 1)
    assert worker.state is State.IDLE
    process = children()
    assert do(worker, 2) == ("ask", 2)
    assert (worker.state, children()) == (State.IDLE, process)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("before the setup", "-9 (SIGKILL) before its work was done; often that is memory"),
        ("in the setup", "-9 (SIGKILL)"),
        ("leaves before the setup", "3 before its work was done; what it wrote above may say why"),
        ("before the task", "-9 (SIGKILL)"),
        ("in the task", "-9 (SIGKILL)"),
        ("leaves", "3 before"),
        ("after a batch", "-9 (SIGKILL)"),
        ("in the answer", "-9 (SIGKILL)"),
    ],
)
def test_busy_becomes_absent_where_the_process_ends(worker, behave, how, code):
    before = children()
    behave(how)
    with pytest.raises(WorkerError) as caught:
        InThread(lambda: do(worker)).result()
    assert f"the worker process on device 'cpu' ended with exit code {code}" in str(caught.value)
    assert (worker.state, children()) == (State.ABSENT, before)
    behave("well")
    assert do(worker, 1) == ("ask", 1)


@pytest.mark.parametrize("how", ["nonsense", "raises what is unknown here"])
def test_busy_becomes_idle_where_the_answer_has_no_meaning(worker, behave, how):
    behave(how)
    with pytest.raises(WorkerError, match="what a worker process sent cannot be read here: "):
        do(worker)
    assert worker.state is State.IDLE


def test_busy_becomes_absent_where_the_answer_cannot_be_received(worker, monkeypatch):
    """The rest of that answer must not be taken for the next one."""
    do(worker)
    before = children()
    with monkeypatch.context() as patched:
        patched.setattr(module, "_answer", lambda *_: (_ for _ in ()).throw(MemoryError("full")))
        with pytest.raises(MemoryError, match="full"):
            do(worker, 1)
    assert worker.state is State.ABSENT
    assert not children() & before
    assert do(worker, 2) == ("ask", 2)


@pytest.mark.parametrize("used", [False, True])
def test_idle_becomes_busy_with_another_process_where_it_has_ended_unseen(worker, used):
    worker.start()
    if used:
        do(worker)
    (process,) = children()
    os.kill(process, signal.SIGKILL)
    while process in children():
        time.sleep(0.01)
    assert do(worker, 1) == ("ask", 1)
    assert children() not in (set(), {process})


def test_so_it_does_where_another_library_has_asked_for_its_exit_code(worker):
    do(worker)
    (process,) = children()
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    assert InThread(lambda: do(worker, 1)).result() == ("ask", 1)


def test_absent_stays_absent_where_no_process_can_be_started(worker, monkeypatch):
    def fail(_):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(multiprocessing.get_context("spawn").Process, "start", fail)
        with pytest.raises(WorkerError, match="for device 'cpu' could not be started: .*temporarily unavailable; use"):
            do(worker)
        with pytest.raises(WorkerError, match="could not be started"):
            worker.start()
    assert worker.state is State.ABSENT
    assert do(worker, 1) == ("ask", 1)


def test_idle_stays_idle_where_the_setup_cannot_be_sent(behave, tmp_path):
    worker = Worker(setup(tmp_path, EncoderOptions(model_kwargs={"note": lambda: None})))
    for _ in range(2):
        with pytest.raises(WorkerError, match="model, config or options cannot be sent to a worker process: .*; give"):
            do(worker)
        assert worker.state is State.IDLE
    worker.close()
    assert not children()


def test_absent_and_idle_become_closed(worker, behave, tmp_path):
    never = Worker(setup(tmp_path))
    do(worker)
    for one in (never, worker):
        one.close()
        one.close()
        assert one.state is State.CLOSED
        with pytest.raises(WorkerError, match="the encoder was closed in the middle of this call"):
            do(one)
    assert not children()


@pytest.mark.parametrize("how", ["hangs", "stubborn"])
def test_busy_becomes_closed_and_its_call_ends(worker, behave, how):
    """Also if the process does not listen when it is asked to end."""
    behave(how)
    call = Call(ECHO)
    busy = InThread(lambda: do(worker, call=call))
    assert call.events.get(timeout=SECONDS) == ("batch", 0, 1)
    assert worker.state is State.BUSY
    worker.close()
    with pytest.raises(WorkerError, match="the encoder was closed in the middle of this call"):
        busy.result()
    assert worker.state is State.CLOSED
    assert not children()


def test_busy_becomes_closed_while_its_process_starts(worker, behave):
    busy = InThread(lambda: do(worker))
    while worker.state is not State.BUSY:
        time.sleep(0.001)
    worker.close()
    with pytest.raises(WorkerError, match="the encoder was closed in the middle of this call"):
        busy.result()
    assert not children()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors cannot be counted here")
def test_descriptors_are_given_back(worker, behave):
    def used():
        return len(list(Path("/proc/self/fd").iterdir()))

    behave("in the task")
    for _ in range(2):
        with pytest.raises(WorkerError):
            do(worker)
    before = used()
    for _ in range(3):
        with pytest.raises(WorkerError):
            do(worker)
    assert used() == before


# --- several workers --------------------------------------------------------------------------------------------------


@pytest.fixture
def pool(behave, tmp_path):
    pool = WorkerPool(setup(tmp_path).spec, ECHO, LARGE.replace(devices=["cpu", "cpu"]))
    yield pool
    pool.close()
    assert not children()


def test_after_each_end_the_next_call_works(pool, behave):
    for how in ("in the answer", "leaves", "in the task", "after a batch"):
        behave(how)
        with pytest.raises(WorkerError, match="ended with exit code"):
            InThread(lambda: pool.limit("query")).result()
        behave("well")
        assert pool._ask("name", 1) == ("ask", "name", 1)  # each worker answers to any of them


def test_closing_in_the_middle_of_a_call_ends_it_and_leaves_no_workers(pool, behave):
    behave("hangs")
    calls = [InThread(lambda: pool.limit("query")) for _ in range(5)]  # more than there are workers
    while len(children()) < 2:
        time.sleep(0.01)
    pool.close()
    assert not children()
    for call in calls:
        with pytest.raises(WorkerError, match="the encoder was closed in the middle of this call"):
            call.result()
    assert not children()
    behave("well")
    assert pool._ask("name") == ("ask", "name")


def test_a_call_does_not_go_on_with_new_workers_after_closing(pool):
    """Such as one that has tokenised its texts, and is to embed them next."""
    with pool._workers.call(ECHO) as call:
        assert list(pool._workers.run(call, [("ask", ("a",))])) == [(0, ("ask", "a"))]
        pool.close()
        with pytest.raises(WorkerError, match="the encoder was closed in the middle of this call"):
            list(pool._workers.run(call, [("ask", ("b",))]))
    assert not children()


def test_threads_that_do_not_start_are_an_error_and_the_next_call_works(pool, monkeypatch):
    start, started = threading.Thread.start, []

    def fail(thread):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(WorkerError, match="threads .* cannot be started: can't start new thread"):
            pool._ask("name")
    assert pool._ask("name") == ("ask", "name")


def test_a_fork_leaves_the_workers_to_its_parent(pool, behave):
    """Its own end, by ``sys.exit`` as well, does not end them; and it starts its own."""
    pool._ask("name")
    workers = children()
    if (child := os.fork()) == 0:
        signal.alarm(60)
        found, own = pool._ask("name", os.getpid()), children()
        pool.close()
        multiprocessing.util._exit_function()  # what Python calls at its end
        os._exit(0 if found == ("ask", "name", os.getpid()) and own and not own & workers else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pool._ask("name") == ("ask", "name")
    assert children() == workers
    assert len(workers) == 2


def test_a_fork_in_the_middle_of_a_call_ends_it_there(pool, behave):
    behave("hangs")
    call = InThread(lambda: pool.limit("query"))
    while not children():
        time.sleep(0.01)
    with pool._workers.call(ECHO) as ours:
        if (child := os.fork()) == 0:
            signal.alarm(60)
            try:
                list(pool._workers.run(ours, [("ask", ("a",))]))
            except WorkerError as error:
                os._exit(0 if "this process was forked in the middle of a call" in str(error) else 1)
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    pool.close()
    with pytest.raises(WorkerError, match="closed"):
        call.result()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes cannot be looked up here")
def test_workers_end_with_a_parent_that_is_killed_although_a_fork_of_it_lives_on(pool):
    """The fork does not keep the parent's end of the connections open."""
    ours, theirs = multiprocessing.Pipe()
    if (parent := os.fork()) == 0:
        pool._ask("name")
        if os.fork() == 0:
            signal.alarm(60)
            time.sleep(60)
        theirs.send(children())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    workers = ours.recv()
    until = time.monotonic() + SECONDS
    while any(map(is_running, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert workers
    assert not any(map(is_running, workers))


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_error_of_a_worker_can_be_sent(behave):
    class Local(Exception):  # noqa: N818
        pass

    assert type(module._portable(ValueError("no"))) is ValueError
    assert str(module._portable(Local("no"))) == "Local: no"
    assert str(module._portable(BaseException("a panic"))) == "BaseException: a panic"
    kind, (error, trace) = pickle.loads(module._sendable(("done", lambda: None)))
    assert kind == "failed"
    assert "lambda" in str(error)
    assert "Traceback" in trace
