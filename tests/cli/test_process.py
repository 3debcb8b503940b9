"""The command as a process of its own: what it imports, and what is left when it is killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests import processes
from tests.architectures import small_tokenizer, tiny

ROWS, CHECKPOINT = 48, 4


MAIN = "from echo_embeddings.cli import main; main()"
# One thread: so little work is not worth waiting for another core, which on a busy machine takes long. And a tenth of a
# second for each checkpoint, so that there is a time to kill it.
SLOW = """
import time, torch
from echo_embeddings import EchoEncoder
torch.set_num_threads(1)
encode = EchoEncoder.encode_documents
def slow(*arguments, **options):
    time.sleep(0.1)
    return encode(*arguments, **options)
EchoEncoder.encode_documents = slow
"""


def run(*arguments, cwd=None, code=MAIN):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["embed", "--help"], ["--version"]])
def test_help_does_not_load_the_heavy_packages(arguments):
    code = (
        "import sys\nfrom echo_embeddings.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print(sorted({'torch', 'transformers', 'pyarrow', 'faiss', 'scipy'} & set(sys.modules)))\n"
    )
    status, out, err = run(*arguments, code=code)
    assert (status, out.splitlines()[-1]) == (0, "[]"), err


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_typer_or_rich_one_line_names_the_extra(package):
    code = f"import sys; sys.modules[{package!r}] = None\nfrom echo_embeddings.cli import main\nmain()"
    status, out, err = run("--help", code=code)
    assert (status, out) == (2, "")
    assert err.startswith("echo-embeddings: the command line needs typer and rich: from a checkout: ")
    assert err.endswith("pip install '.[cli]'\n")


def test_without_pyarrow_the_extra_is_named(tmp_path):
    (tmp_path / "in.txt").write_text("a\n")
    code = "import sys; sys.modules['pyarrow'] = None\nfrom echo_embeddings.cli import main\nmain()"
    status, _, err = run("embed", "in.txt", "out.parquet", cwd=tmp_path, code=code)
    assert status == 1
    assert err.startswith("error: writing parquet needs pyarrow: from a checkout: ")
    assert err.endswith("pip install '.[parquet]'\n")


@pytest.fixture
def folder(tmp_path):
    texts = [f"The ferry number {i} leaves the island at dawn, {'and again ' * (i % 5)}at night." for i in range(ROWS)]
    work = tmp_path / "work"
    work.mkdir()
    (work / "in.csv").write_text("id,text\n" + "".join(f'{i},"{text}"\n' for i, text in enumerate(texts)))
    tiny("llama").save_pretrained(tmp_path / "model")
    small_tokenizer(texts).save_pretrained(tmp_path / "model")
    return work


class Embedding:
    """The command ``embed`` in a process of its own."""

    def __init__(self, folder, output, source="in.csv"):
        self._folder = folder
        model = ("--model", folder.parent / "model", "--config", "classical")
        options = ("--checkpoint-rows", CHECKPOINT, "--format", "csv", *model)
        streams = {name: folder.parent / f"{folder.name}-{name}" for name in ("stdout", "stderr")}
        self._out, self._err = streams.values()
        arguments = ("embed", source, output, *options)
        self._process = processes.start(SLOW + MAIN, *arguments, cwd=folder, stdin=folder / "in.csv", **streams)

    def stop(self, parts, with_signal, checkpoint=1):
        """Send a signal as soon as this checkpoint is saved."""
        deadline = time.monotonic() + 300
        while not (parts / f"{checkpoint:06d}.npz").exists():
            assert self._process.is_alive(), self._err.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(self._process.pid, with_signal)
        return self.finish()

    def finish(self):
        self._process.join(300)
        return self._process.exitcode, self._out.read_text(), self._err.read_text()


def test_killed_and_started_again_it_gives_the_same_bytes(folder):
    parts = folder / "stopped.parquet.parts"
    status, _, err = Embedding(folder, "stopped.parquet").stop(parts, signal.SIGINT)
    saved = len(list(parts.glob("*.npz")))
    assert 2 <= saved < ROWS // CHECKPOINT
    assert status == 130
    assert f"{saved * CHECKPOINT} rows are saved in stopped.parquet.parts; run the same command to go on" in err
    assert err.endswith("interrupted\n")
    assert sorted(path.name for path in folder.iterdir()) == ["in.csv", "stopped.parquet.parts"]
    assert not list(parts.glob(".*.tmp"))

    (parts / "000001.npz").unlink()  # so that a kill can be timed by it again
    status, _, _ = Embedding(folder, "stopped.parquet").stop(parts, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert not (folder / "stopped.parquet").exists()

    status, out, err = Embedding(folder, "stopped.parquet").finish()
    assert status == 0, err
    assert f"stopped.parquet: {ROWS} vectors" in out
    assert "of them from an earlier run" in out
    assert not parts.exists()

    # The same from a pipe: killed, and given the same stream again.
    status, _, _ = Embedding(folder, "piped.parquet", "-").stop(folder / "piped.parquet.parts", signal.SIGKILL)
    assert status == -signal.SIGKILL
    status, out, err = Embedding(folder, "piped.parquet", "-").finish()
    assert status == 0, err
    assert "of them from an earlier run" in out

    status, _, err = Embedding(folder, "whole.parquet").finish()
    assert status == 0, err
    assert (folder / "stopped.parquet").read_bytes() == (folder / "whole.parquet").read_bytes()
    assert (folder / "piped.parquet").read_bytes() == (folder / "whole.parquet").read_bytes()
