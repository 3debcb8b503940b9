"""Compiled layers give the same vectors. Without a compiler the model runs as it is."""

import os
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from echo_embeddings import EchoEncoder
from echo_embeddings.config.config import Layers
from echo_embeddings.forward.speed import packed_attention
from echo_embeddings.forward.speed.compiled import compile_layers
from echo_embeddings.model.architecture import is_compiled
from tests import processes
from tests.architectures import backbone, tiny
from tests.conftest import cosines


@pytest.fixture
def folder(builtin_folder, tmp_path):
    tiny("llama", vocab_size=49152).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(builtin_folder).save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


SCRIPT = """
import os, warnings, sys, numpy as np
import torch._inductor.config
from echo_embeddings import EchoEncoder
torch._inductor.config.cpp.cxx = (None, os.environ["CXX"])  # read before this process was forked
if sys.argv[3] == "no code":
    compile = torch.nn.Module.compile
    torch.nn.Module.compile = lambda layer, **how: compile(layer, backend="eager", **how)
encoder = EchoEncoder(sys.argv[1], "late-echo", dtype="float32", device="cpu", compiled=True)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    vectors = encoder.encode_documents(["one text", "another one, and longer", "one text " * 50])
np.save(sys.argv[2], vectors)
print(*(str(warning.message) for warning in said if "compile" in str(warning.message)))
layers = encoder.runtime.backbone.model.layers
print("attention:", encoder.runtime.backbone.model.config._attn_implementation)
print("compiled:", [layer._compiled_call_impl is not None for layer in layers].count(True), "of", len(layers))
"""


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")


@pytest.mark.parametrize(
    "compiler",
    [
        pytest.param("g++", marks=[needs_compiler, pytest.mark.slow]),  # a minute of compiling
        "no code",  # the layers are traced and run as they were traced
        "no-such-compiler",
    ],
)
def test_vectors_are_the_same_with_and_without_a_compiler(folder, tmp_path, compiler):
    env = os.environ | {"CXX": compiler, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = processes.run(SCRIPT, folder, tmp_path / "vectors.npy", compiler, env=env)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "attention: sdpa" in said  # in float32 the whole layer is compiled, with its attention
    if compiler != "no-such-compiler":
        assert "compiled: 5 of 5" in said
        assert compiler == "no code" or any((tmp_path / "cache").iterdir())
    else:
        assert "compiled: 0 of 5" in said
        assert "could not be compiled and runs as it is" in said
    plain = EchoEncoder(folder, "late-echo", dtype="float32", device="cpu")
    expected = plain.encode_documents(["one text", "another one, and longer", "one text " * 50])
    assert cosines(np.load(tmp_path / "vectors.npy"), expected).min() > 0.99999


@pytest.mark.parametrize("backend", [pytest.param("inductor", marks=[needs_compiler, pytest.mark.slow]), "eager"])
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's compiler uses it itself
def test_compiled_layers_take_packed_sequences(tmp_path, monkeypatch, backend):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, **how: compile_(layer, backend=backend, **how))
    model = tiny("llama")
    packed_attention.register(model)
    compile_layers(model)
    assert is_compiled(model)
    assert backbone(
        model, Layers(3, 5, 6, final_norm=False)
    ).packs  # compares the states of packed and of single sequences


def test_a_loaded_model_is_not_compiled(builtin_folder):
    tokenizer = AutoTokenizer.from_pretrained(builtin_folder)
    with pytest.raises(TypeError, match="compiled= goes with a model's name"):
        EchoEncoder(tiny("llama"), tokenizer=tokenizer, compiled=True)
