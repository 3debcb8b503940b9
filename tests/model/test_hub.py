"""Where a model is found: on this machine first, then on the hub; and what is said where nobody knows."""

import time

import pytest
from transformers import AutoTokenizer

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder, ModelError
from echo_embeddings.model.hub import find_file, pinned
from echo_embeddings.model.spec import ModelSpec
from tests.architectures import tiny
from tests.model import fake_hub

RULE = EchoConfig.preset("any-model")
SAVED = EchoConfig.preset("classical").replace(max_length=77)


@pytest.fixture(scope="module")
def folder(builtin_folder, tmp_path_factory):
    """A tiny random model in a folder, with a config of its own."""
    folder = tmp_path_factory.mktemp("here") / "models" / "my-embedder"
    tiny("llama", vocab_size=49152).save_pretrained(folder)
    AutoTokenizer.from_pretrained(builtin_folder).save_pretrained(folder)
    SAVED.save(folder)
    return folder


@pytest.fixture
def plain(folder, tmp_path):
    """The same model without a config."""
    plain = tmp_path / "plain"
    plain.mkdir()
    for path in folder.iterdir():
        if path.name != "echo_config.json":
            (plain / path.name).symlink_to(path)
    return plain


@pytest.fixture(scope="module")
def server():
    with fake_hub.running() as server:
        yield server


@pytest.fixture
def hub(server, monkeypatch, tmp_path, folder, plain):
    server.models, server.statuses, server.asked = {"owner/saved": folder, "owner/plain": plain}, {}, []
    fake_hub.use(monkeypatch, server.endpoint, tmp_path / "cache")
    return server


# --- on this machine --------------------------------------------------------------------------------------------------


def test_a_tilde_is_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert EchoEncoder("~/my-embedder").config == SAVED
    assert ModelSpec("~/my-embedder", adapter="~/a").model == str(folder)
    assert ModelSpec("~/my-embedder", adapter="~/a").adapter == str(folder.parent / "a")
    assert EchoEncoder("~/my-embedder").model_name == str(folder)


def test_so_it_is_where_something_is_written(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    SAVED.save("~/config")
    EchoEncoder(folder, dtype="float32").save_pretrained("~/model")
    assert EchoConfig.load("~/config") == SAVED
    assert EchoEncoder(tmp_path / "model").config.max_length == SAVED.max_length
    assert ModelSpec("a/b", model_kwargs={"cache_dir": "~/hub"}).model_kwargs["cache_dir"] == str(tmp_path / "hub")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("models/my-embeder", "there is no folder 'models/my-embeder'; .* Did you mean 'models/my-embedder'?"),
        ("./my-embeder", "there is no folder './my-embeder'"),
        ("modles/my-embedder/", "there is no folder 'modles/my-embedder/'; .* Did you mean 'models'?"),
        ("a/b/c", "there is no folder 'a/b/c'"),
        ("~/my-embeder", "there is no folder '.*/my-embeder'; "),
        ("models/my-embedder/model.safetensors", "is a file; give the folder that holds config.json"),
        ("other.gguf", "there is no GGUF file 'other.gguf'"),
        ("my model", "there is no folder 'my model'"),
        ("", "there is no folder ''"),
    ],
)
def test_a_path_where_nothing_is_never_goes_to_the_hub(name, message, hub, folder, monkeypatch):
    monkeypatch.chdir(folder.parent.parent)
    for use in (lambda: EchoEncoder(name).config, lambda: EchoEncoder(name, "echo").encode_documents("a")):
        with pytest.raises(ModelError, match=message):
            use()
    assert hub.asked == []


def test_a_folder_goes_before_a_model_of_the_hub(hub, plain, monkeypatch, tmp_path):
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "saved").symlink_to(plain)
    monkeypatch.chdir(tmp_path)
    assert EchoEncoder("owner/saved").config == RULE
    assert hub.asked == []


@pytest.mark.parametrize("file", ["echo_config.json", "echo_transforms.safetensors"])
@pytest.mark.parametrize("kind", ["folder", "dangling", "loop"])
def test_what_has_the_name_of_a_config_and_is_no_file_is_an_error(file, kind, plain):
    path = plain / file
    if file != "echo_config.json":
        SAVED.save(plain)
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "loop" else plain / "nothing")
    with pytest.raises(ModelError, match=rf"{file} is a (folder|link to nothing); put the file there, or remove it"):
        EchoEncoder(plain).encode_documents("a")


# --- on the hub -------------------------------------------------------------------------------------------------------


def test_a_model_of_the_hub_with_its_config(hub, folder):
    encoder = EchoEncoder("owner/saved")
    assert encoder.config == SAVED
    assert (encoder.encode_documents(["a", "b"]) == EchoEncoder(folder).encode_documents(["a", "b"])).all()


def test_all_files_are_of_one_commit(hub):
    spec = pinned(ModelSpec("owner/saved", model_kwargs={"revision": "v1"}))
    assert spec.model_kwargs == {"revision": fake_hub.COMMIT}
    assert fake_hub.COMMIT in find_file(spec, "echo_config.json")


def test_a_known_absence_means_that_there_is_no_config(hub):
    encoder = EchoEncoder("owner/plain")
    assert encoder.config == RULE
    assert encoder.encode_documents("a").shape == (32 + RULE.lexical.dimension,)


@pytest.mark.parametrize("status", [500, 502, 503, 429, 403, 401])
def test_any_other_answer_is_an_error(hub, status):
    hub.statuses["echo_config.json"] = status
    start = time.monotonic()
    with pytest.raises(ModelError, match=rf"whether .*'owner/saved' has a file echo_config.json .* answered {status}"):
        EchoEncoder("owner/saved").encode_documents("a")
    assert time.monotonic() - start < 5
    assert EchoEncoder("owner/saved", "echo").encode_documents("a").shape == (32,), "a config that is given is enough"


def test_arrays_that_cannot_be_fetched_are_an_error(hub):
    hub.statuses["echo_transforms.safetensors"] = 503
    with pytest.raises(ModelError, match=r"echo_transforms.safetensors is not known: the hub answered 503"):
        EchoEncoder("owner/saved").encode_documents("a")


def test_a_copy_in_the_cache_serves_where_the_hub_fails(hub, monkeypatch):
    expected = EchoEncoder("owner/saved").encode_documents("a")
    EchoEncoder("owner/plain").encode_documents("a")
    hub.statuses = dict.fromkeys(("config.json", "echo_config.json", "tokenizer.json", "model.safetensors"), 500)
    assert (EchoEncoder("owner/saved").encode_documents("a") == expected).all()
    assert EchoEncoder("owner/plain").config == RULE, "the cache knows that there is none"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert (EchoEncoder("owner/saved").encode_documents("a") == expected).all()
    assert EchoEncoder("owner/plain").config == RULE


@pytest.mark.parametrize("kwargs", [{}, {"local_files_only": True}])
def test_a_cache_without_the_config_is_an_error(hub, monkeypatch, kwargs):
    hub.statuses["echo_config.json"] = 503
    EchoEncoder("owner/saved", "echo").encode_documents("a")
    if not kwargs:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"echo_config.json is not known: .* is set.*EchoEncoder\(model, config="):
        EchoEncoder("owner/saved", model_kwargs=kwargs).encode_documents("a")


def test_an_id_that_the_hub_does_not_know(hub):
    with pytest.raises(ModelError, match="'owner/savd' could not be loaded: there is no folder of that name in .* 404"):
        EchoEncoder("owner/savd").encode_documents("a")


def test_without_a_network_one_error_comes_at_once(monkeypatch, tmp_path):
    fake_hub.use(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    start = time.monotonic()
    for use in (
        lambda: EchoEncoder("owner/saved").config,
        lambda: EchoEncoder("owner/saved", "echo").encode_documents("a"),
        lambda: EchoEncoder("owner/saved", "echo", model_kwargs={"revision": "0" * 40}).encode_documents("a"),
    ):
        with pytest.raises(ModelError, match="no folder of that name in .* as a hub id it cannot be reached: there"):
            use()
    assert time.monotonic() - start < 10


def test_a_damaged_config_of_the_hub_is_an_error(hub, plain):
    (plain / "echo_config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"echo_config.json is not valid JSON"):
        EchoEncoder("owner/plain").encode_documents("a")
