"""The command as a process of its own: what it imports, and what is left when it is killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

ROWS, CHECKPOINT = 120, 8


def start(*arguments, cwd=None, stdin=None, code="from echo_embeddings.cli import main; main()"):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    # One thread: so little work is not worth waiting for another core, which on a busy machine takes long.
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": env}
    # A shell that starts the tests in the background lets them ignore Ctrl-C, and their children with them.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, cwd=cwd, stdin=stdin, **pipes)
    finally:
        signal.signal(signal.SIGINT, before)


def finish(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.mark.parametrize("arguments", [["--help"], ["embed", "--help"], ["--version"]])
def test_help_does_not_load_the_heavy_packages(arguments):
    code = (
        "import sys\nfrom echo_embeddings.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print(sorted({'torch', 'transformers', 'pyarrow', 'faiss', 'scipy'} & set(sys.modules)))\n"
    )
    status, out, err = finish(start(*arguments, code=code))
    assert (status, out.splitlines()[-1]) == (0, "[]"), err


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_typer_or_rich_one_line_names_the_extra(package):
    code = f"import sys; sys.modules[{package!r}] = None\nfrom echo_embeddings.cli import main\nmain()"
    status, out, err = finish(start("--help", code=code))
    assert (status, out) == (2, "")
    assert err.startswith("echo-embeddings: the command line needs typer and rich: from a checkout: ")
    assert err.endswith("pip install '.[cli]'\n")


def test_without_pyarrow_the_extra_is_named(tmp_path):
    (tmp_path / "in.txt").write_text("a\n")
    code = "import sys; sys.modules['pyarrow'] = None\nfrom echo_embeddings.cli import main\nmain()"
    status, _, err = finish(start("embed", "in.txt", "out.parquet", cwd=tmp_path, code=code))
    assert status == 1
    assert err.startswith("error: writing parquet needs pyarrow: from a checkout: ")
    assert err.endswith("pip install '.[parquet]'\n")


@pytest.fixture
def folder(tmp_path, builtin_folder):
    lines = [
        f'{i},"The ferry number {i} leaves the island at dawn, {"and again " * (i % 5)}at night."\n'
        for i in range(ROWS)
    ]
    (tmp_path / "in.csv").write_text("id,text\n" + "".join(lines))
    return tmp_path


def embed(folder, output, source="in.csv"):
    options = ("--checkpoint-rows", CHECKPOINT, "--config", "classical", "--format", "csv")
    if source != "-":
        return start("embed", source, output, *options, cwd=folder)
    with (folder / "in.csv").open("rb") as stdin:
        return start("embed", source, output, *options, cwd=folder, stdin=stdin)


def stop(process, parts, with_signal, checkpoint=1):
    """Send a signal as soon as this checkpoint is saved."""
    deadline = time.monotonic() + 300
    while not (parts / f"{checkpoint:06d}.npz").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, with_signal)
    return finish(process)


def test_killed_and_started_again_it_gives_the_same_bytes(folder):
    parts = folder / "stopped.parquet.parts"
    status, _, err = stop(embed(folder, "stopped.parquet"), parts, signal.SIGINT)
    saved = len(list(parts.glob("*.npz")))
    assert 2 <= saved < ROWS // CHECKPOINT
    assert status == 130
    assert f"{saved * CHECKPOINT} rows are saved in stopped.parquet.parts; run the same command to go on" in err
    assert err.endswith("interrupted\n")
    assert sorted(path.name for path in folder.iterdir()) == ["in.csv", "stopped.parquet.parts"]
    assert not list(parts.glob(".*.tmp"))

    (parts / "000001.npz").unlink()  # so that a kill can be timed by it again
    status, _, _ = stop(embed(folder, "stopped.parquet"), parts, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert not (folder / "stopped.parquet").exists()

    status, out, err = finish(embed(folder, "stopped.parquet"))
    assert status == 0, err
    assert f"stopped.parquet: {ROWS} vectors" in out
    assert "of them from an earlier run" in out
    assert not parts.exists()

    # The same from a pipe: killed, and given the same stream again.
    status, _, _ = stop(embed(folder, "piped.parquet", "-"), folder / "piped.parquet.parts", signal.SIGKILL)
    assert status == -signal.SIGKILL
    status, out, err = finish(embed(folder, "piped.parquet", "-"))
    assert status == 0, err
    assert "of them from an earlier run" in out

    status, _, err = finish(embed(folder, "whole.parquet"))
    assert status == 0, err
    assert (folder / "stopped.parquet").read_bytes() == (folder / "whole.parquet").read_bytes()
    assert (folder / "piped.parquet").read_bytes() == (folder / "whole.parquet").read_bytes()
