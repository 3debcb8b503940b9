"""``serve``: how options become a server, and what is said before anything is loaded."""

import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from echo_embeddings import server
from echo_embeddings.cli.app import app
from echo_embeddings.server.keys import VARIABLE


@pytest.fixture
def serve(monkeypatch):
    """Run the command; what it would serve, or, where another exit code is wanted, its stderr in one line."""
    served = {}

    def remember(encoder, options, **how):
        served.update(encoder=encoder, options=options, **how)

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, ["serve", *map(str, arguments)])
        assert result.exit_code == code, result.output
        return served if code == 0 else " ".join(result.stderr.split())

    monkeypatch.setattr(server, "serve", remember)
    monkeypatch.delenv(VARIABLE, raising=False)
    return run


def test_without_options_it_listens_on_this_machine_only(serve):
    found = serve()
    assert (found["host"], found["port"]) == ("127.0.0.1", 8000)
    assert found["options"] == server.ServerOptions()
    assert found["encoder"].options.on_truncate == "ignore"
    assert found["encoder"]._engine is None


def test_options(serve, tmp_path, monkeypatch):
    keys = tmp_path / "keys"
    keys.write_text("key-one\n")
    monkeypatch.setenv(VARIABLE, "key-two")
    words = "serve --host 0.0.0.0 --port 9000 --name mine --cors https://a.org --cors https://b.org --max-body-mb 0.5"
    found = serve(*words.split()[1:], "--max-queue", 10, "--no-page", "--api-keys", keys, "--on-truncate", "error")
    assert (found["host"], found["port"]) == ("0.0.0.0", 9000)
    assert found["options"] == server.ServerOptions(
        name="mine",
        api_keys=("key-one", "key-two"),
        cors=("https://a.org", "https://b.org"),
        max_body=2**19,
        max_queue=10,
        page=False,
    )
    assert found["encoder"].options.on_truncate == "error"


def test_options_of_the_encoder(serve):
    found = serve("--config", "zero-shot", "--dtype", "float32", "--max-length", 9, "--dimensions", 256)["encoder"]
    assert (found.options.dtype, found.config.max_length, found.options.dimensions) == ("float32", 9, 256)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "a:b"], "error: name='a:b': give a name without spaces and without any of : ? #"),
        (["--cors", "a.org"], "error: cors='a.org' is no origin; give one such as 'https://example.org', or '*'"),
        (["--api-keys", "none.txt"], "error: none.txt: No such file or directory"),
        (["./nothing"], "error: there is no model './nothing'"),
    ],
)
def test_what_cannot_be_is_said_at_once(serve, arguments, message):
    assert message in serve(*arguments, code=1)


def test_a_port_that_is_taken_is_said_before_the_model_is_loaded(builtin_encoder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["serve", "--port", str(port)])
    assert result.exit_code == 1
    said = f"error: cannot listen on 127.0.0.1, port {port}: Address already in use; choose another port (0 takes"
    assert said in " ".join(result.stderr.split())


def test_an_address_of_another_machine_is_said():
    result = CliRunner().invoke(app, ["serve", "--host", "192.0.2.1"])
    assert result.exit_code == 1
    assert "error: cannot listen on 192.0.2.1, port 8000: Cannot assign requested address" in " ".join(
        result.stderr.split()
    )


def test_without_the_extra_it_is_named(tmp_path):
    code = (
        "import sys; sys.modules['uvicorn'] = None\nfrom echo_embeddings.cli import main\n"
        "sys.argv[1:] = ['serve']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: serving needs uvicorn: from a checkout: ")
    assert done.stderr.endswith("pip install '.[server]'\n")
