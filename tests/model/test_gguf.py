"""A model in a ``.gguf`` file: by its path, or as transformers' users give it."""

import os

import gguf
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from echo_embeddings import EchoConfig, EchoEncoder, ModelError, user_cache
from echo_embeddings.cli.app import app
from echo_embeddings.model import conversion
from tests import processes
from tests.conftest import cosines

TEXTS = ["a cab", "abba bab"]
TOKENS = ["<s>", "</s>", "a", "b", "c", "Ġ", "ab", "ba", "Ġa", "Ġb"]
MERGES = ["a b", "b a", "Ġ a", "Ġ b"]
LAYERS, WIDTH, HEADS = 4, 32, 4


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(user_cache.VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield user_cache.folder() / "gguf"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny random model, written as llama.cpp writes one."""
    folder = tmp_path_factory.mktemp("gguf")
    write(folder / "tiny.gguf")
    return folder


def write(path, dtype=np.float32):
    writer, random = gguf.GGUFWriter(path, "llama"), np.random.default_rng(0)
    for name, value in {
        "block_count": LAYERS,
        "context_length": 256,
        "embedding_length": WIDTH,
        "feed_forward_length": 48,
        "head_count": HEADS,
        "head_count_kv": HEADS,
        "rope_dimension_count": WIDTH // HEADS,
        "vocab_size": len(TOKENS),
    }.items():
        getattr(writer, f"add_{name}")(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    shapes = {
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (WIDTH, WIDTH),
        "attn_v": (WIDTH, WIDTH),
        "attn_output": (WIDTH, WIDTH),
    }
    shapes |= {"ffn_gate": (48, WIDTH), "ffn_up": (48, WIDTH), "ffn_down": (WIDTH, 48)}
    shapes |= {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,)}
    tensors = {f"blk.{layer}.{name}.weight": shape for layer in range(LAYERS) for name, shape in shapes.items()}
    for name, shape in (tensors | {"token_embd.weight": (len(TOKENS), WIDTH), "output_norm.weight": (WIDTH,)}).items():
        kept = np.float32 if len(shape) == 1 else dtype
        writer.add_tensor(name, random.normal(scale=0.25, size=shape).astype(kept))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("name", ["tiny.gguf", "gone.gguf"])
def test_gguf_file_means_the_same_as_a_path(folder, name):
    encoder = EchoEncoder(folder, "echo", model_kwargs={"gguf_file": name})
    if name == "gone.gguf":
        with pytest.raises(ModelError, match="there is no GGUF file '.*gone.gguf'"):
            encoder.encode_documents(TEXTS)
        return
    expected = EchoEncoder(folder / name, "echo").encode_documents(TEXTS)
    np.testing.assert_array_equal(encoder.encode_documents(TEXTS), expected)
    assert encoder.weights_fingerprint() == EchoEncoder(folder / name, "echo").weights_fingerprint()


def test_a_config_beside_the_file_is_used(folder):
    assert EchoEncoder(folder, model_kwargs={"gguf_file": "tiny.gguf"}).config == EchoConfig.preset("any-model")
    config = EchoConfig.preset("classical")
    config.save(folder)
    try:
        assert EchoEncoder(folder, model_kwargs={"gguf_file": "tiny.gguf"}).config == config
    finally:
        (folder / "echo_config.json").unlink()


def test_embed_filter_finds_the_unembedding(folder):
    encoder = EchoEncoder(folder, "echo", model_kwargs={"gguf_file": "tiny.gguf"}).fit_transforms([], ["embed-filter"])
    assert encoder.encode_documents(TEXTS).shape == (2, WIDTH // 2)


def test_a_gguf_model_can_be_saved(folder, tmp_path):
    encoder = EchoEncoder(folder, "echo", dtype="float32", model_kwargs={"gguf_file": "tiny.gguf"})
    encoder.save_pretrained(tmp_path / "saved")
    saved = EchoEncoder(tmp_path / "saved").encode_documents(TEXTS)
    np.testing.assert_allclose(saved, encoder.encode_documents(TEXTS), atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"x" * 1000])
def test_a_damaged_file_is_named(folder, tmp_path, content):
    (tmp_path / "bad.gguf").write_bytes(content)
    for encoder in (
        EchoEncoder(tmp_path / "bad.gguf", "echo"),
        EchoEncoder(tmp_path, "echo", model_kwargs={"gguf_file": "bad.gguf"}),
    ):
        with pytest.raises(ModelError, match=r"bad.gguf.* could not be|could not be loaded: .*bad.gguf cannot be"):
            encoder.encode_documents(TEXTS)


@pytest.fixture
def converted(monkeypatch):
    """The files that were converted, in order."""
    made, convert = [], conversion.convert
    monkeypatch.setattr(conversion, "convert", lambda file, target: (made.append(file.name), convert(file, target)))
    return made


def test_a_file_is_converted_once(folder, tmp_path, monkeypatch, converted):
    monkeypatch.setenv(user_cache.VARIABLE, str(tmp_path / "cache"))
    first = EchoEncoder(folder / "tiny.gguf", "late-echo").encode_documents(TEXTS)
    copy = tmp_path / "other.gguf"
    copy.write_bytes((folder / "tiny.gguf").read_bytes())
    assert converted == ["tiny.gguf"]
    np.testing.assert_array_equal(EchoEncoder(folder / "tiny.gguf", "late-echo").encode_documents(TEXTS), first)
    assert converted == ["tiny.gguf"]
    np.testing.assert_array_equal(EchoEncoder(copy, "late-echo").encode_documents(TEXTS), first)


@pytest.mark.parametrize("kept", ["float32", "float16"])
def test_what_is_converted_is_what_transformers_reads(folder, tmp_path, monkeypatch, kept):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv(user_cache.VARIABLE, str(tmp_path / "cache"))
    write(tmp_path / "model.gguf", dtype=kept)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    expected = EchoEncoder(model, "late-echo", tokenizer=tokenizer).encode_documents(TEXTS)
    encoder = EchoEncoder(tmp_path / "model.gguf", "late-echo", dtype="float32")
    # The file has norms in float32 among matrices in float16.
    least = 1 - 1e-6 if kept == "float32" else 0.9999
    assert cosines(encoder.encode_documents(TEXTS), expected).min() > least
    (one,) = conversion.list_converted()
    loaded = AutoModelForCausalLM.from_pretrained(one.folder)
    assert loaded.dtype == getattr(torch, kept)


def test_another_file_of_the_same_name_is_another_model(tmp_path, monkeypatch, converted):
    monkeypatch.setenv(user_cache.VARIABLE, str(tmp_path / "cache"))
    write(tmp_path / "model.gguf")
    first = EchoEncoder(tmp_path / "model.gguf", "late-echo").encode_documents(TEXTS)
    about = (tmp_path / "model.gguf").stat()
    content = bytearray((tmp_path / "model.gguf").read_bytes())
    content[-4000:] = bytes(4000)
    (tmp_path / "model.gguf").write_bytes(content)
    os.utime(tmp_path / "model.gguf", ns=(about.st_atime_ns, about.st_mtime_ns))  # as a copying tool may do
    second = EchoEncoder(tmp_path / "model.gguf", "late-echo").encode_documents(TEXTS)
    assert cosines(first, second).max() < 0.9999
    assert len(converted) == 2
    assert len(conversion.list_converted()) == 2


def test_a_damaged_conversion_is_made_again(folder, tmp_path, monkeypatch, converted):
    monkeypatch.setenv(user_cache.VARIABLE, str(tmp_path / "cache"))
    first = EchoEncoder(folder / "tiny.gguf", "late-echo").encode_documents(TEXTS)
    (one,) = conversion.list_converted()
    os.truncate(one.folder / "model.safetensors", 1000)
    np.testing.assert_array_equal(EchoEncoder(folder / "tiny.gguf", "late-echo").encode_documents(TEXTS), first)
    assert len(converted) == 2


def test_a_cache_that_cannot_be_written_is_said_and_the_file_is_used(folder, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the cache should be")
    expected = EchoEncoder(folder / "tiny.gguf", "late-echo").encode_documents(TEXTS)
    monkeypatch.setenv(user_cache.VARIABLE, str(tmp_path / "cache"))
    with pytest.warns(RuntimeWarning, match=r"cannot be kept in .*set ECHO_EMBEDDINGS_CACHE.*at every start"):
        vectors = EchoEncoder(folder / "tiny.gguf", "late-echo").encode_documents(TEXTS)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_the_facts_of_a_model_convert_nothing(folder, tmp_path, monkeypatch, converted):
    monkeypatch.setenv(user_cache.VARIABLE, str(tmp_path / "cache"))
    assert CliRunner().invoke(app, ["model", "info", str(folder / "tiny.gguf")]).exit_code == 0
    assert converted == []


def test_list_and_remove(folder, tmp_path, monkeypatch, converted):
    monkeypatch.setenv(user_cache.VARIABLE, str(tmp_path / "cache"))
    run = CliRunner().invoke
    assert "There is no model in" in run(app, ["model", "list"]).output
    EchoEncoder(folder / "tiny.gguf", "late-echo").encode_documents(TEXTS)
    listed = run(app, ["model", "list"]).output
    (one,) = conversion.list_converted()
    assert one.name in listed
    assert str(folder / "tiny.gguf") in listed
    refused = run(app, ["model", "remove", "tiny"])
    assert refused.exit_code == 1
    assert f"there is no model 'tiny' in the cache {tmp_path / 'cache'}; there are {one.name}" in refused.output
    assert f"Removed {one.name}" in run(app, ["model", "remove", one.name]).output
    assert conversion.list_converted() == []
    assert [path.name for path in one.folder.parent.iterdir()] == ["digests.json"]
    EchoEncoder(folder / "tiny.gguf", "late-echo").encode_documents(TEXTS)
    assert len(converted) == 2


def test_two_processes_convert_it_once(folder, tmp_path):
    code = f"""
import logging, sys
from echo_embeddings import EchoEncoder
from echo_embeddings.model import conversion
convert = conversion.convert
conversion.convert = lambda *found: (print("converted", flush=True), convert(*found))
print(EchoEncoder({str(folder / "tiny.gguf")!r}, "late-echo").encode_documents("a cab").sum())
"""
    environment = os.environ | {user_cache.VARIABLE: str(tmp_path / "cache")}
    outputs = [tmp_path / "one", tmp_path / "other"]
    started = [processes.start(code, env=environment, stdout=output) for output in outputs]
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0, 0]
    said = sorted(output.read_text().split() for output in outputs)
    assert sorted(map(len, said)) == [1, 2]
    assert said[0][-1] == said[1][-1]
