"""A tiny model in a folder, its encoder, its application in this process, and a server process of it."""

import httpx
import pytest

from echo_embeddings import EchoConfig, EchoEncoder, Lexical
from echo_embeddings.server import ServerOptions, create_app
from tests.architectures import small_tokenizer, tiny
from tests.conftest import TEXTS
from tests.server.running import running

NAME = "tiny-llama"


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Late echo, two templates, fitted transforms, and words beside the echo: all that a vector may be made of."""
    path = tmp_path_factory.mktemp("models") / NAME
    tiny("llama").save_pretrained(path)
    small_tokenizer(TEXTS).save_pretrained(path)
    config = EchoConfig("{text}\n{text}", "Find {text} again {text}", start_layer=2, exit_layer=5, max_length=40)
    texts = [f"{text} {i}" for i in range(5) for text in TEXTS]
    fitted = EchoEncoder(path, config, dtype="float32", on_truncate="ignore").fit_transforms(texts)
    lexical = Lexical.fit(texts, blocks=16)
    fitted.config.replace(lexical=lexical).save(path)
    return path


@pytest.fixture(scope="session")
def encoder(folder):
    encoder = EchoEncoder(folder, dtype="float32", on_truncate="ignore")
    _ = encoder.dimension
    return encoder


@pytest.fixture(scope="session")
def server(folder, tmp_path_factory):
    with running(folder, tmp_path_factory.mktemp("server") / "log", "--dtype", "float32") as server:
        yield server


@pytest.fixture
def client(encoder):
    """Make a client of an application in this process."""

    def client(explain=None, encoder=encoder, **options):
        app = create_app(encoder, ServerOptions(**options), explain=explain)
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")

    return client
