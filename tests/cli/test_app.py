"""The application: its own options, and commands of other distributions."""

from echo_embeddings import __version__


def test_version(run):
    assert run("--version") == f"echo-embeddings {__version__}\n"
