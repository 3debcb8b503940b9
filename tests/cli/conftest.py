"""Commands in this process, in a folder of their own."""

import pytest
from typer.testing import CliRunner

from echo_embeddings.cli.app import app


@pytest.fixture
def run(builtin_folder, tmp_path, monkeypatch):
    """Run a command; its stdout, or, where another exit code than 0 is wanted, its stderr in one line."""
    monkeypatch.chdir(tmp_path)

    def result(*arguments, code=0, stdin=None):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
        assert result.exit_code == code, result.output
        return result

    def run(*arguments, code=0, stdin=None):
        done = result(*arguments, code=code, stdin=stdin)
        return done.stdout if code == 0 else " ".join(done.stderr.split())

    run.result = result
    return run
