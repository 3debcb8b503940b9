"""A model in a ``.gguf`` file: by its path, or as transformers' users give it."""

import gguf
import numpy as np
import pytest

from echo_embeddings import EchoConfig, EchoEncoder, ModelError

TEXTS = ["a cab", "abba bab"]
TOKENS = ["<s>", "</s>", "a", "b", "c", "Ġ", "ab", "ba", "Ġa", "Ġb"]
MERGES = ["a b", "b a", "Ġ a", "Ġ b"]
LAYERS, WIDTH, HEADS = 4, 32, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny random model, written as llama.cpp writes one."""
    folder = tmp_path_factory.mktemp("gguf")
    writer, random = gguf.GGUFWriter(folder / "tiny.gguf", "llama"), np.random.default_rng(0)
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
        writer.add_tensor(name, random.normal(scale=0.25, size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder


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
    assert EchoEncoder(folder, model_kwargs={"gguf_file": "tiny.gguf"}).config == EchoConfig.preset("echo")
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
