"""A pickled model brings its attention with it, into processes that have never heard of this package."""

import copy
import pickle

import numpy as np
import pytest
import torch
import transformers

from echo_embeddings.forward.speed import block_attention, packed_attention
from tests import processes
from tests.architectures import tiny
from tests.killing import ROOT

# It imports no module of ours itself.
ARRIVES = """
import pickle, sys
assert "echo_embeddings" not in sys.modules
import numpy as np, torch, transformers
with open(sys.argv[1], "rb") as file:
    model, config = pickle.load(file)
assert transformers.AutoModel.from_config(config).config._attn_implementation == sys.argv[2]
with torch.inference_mode():
    np.save(sys.argv[3], model(input_ids=torch.arange(1, 41)[None], use_cache=False).last_hidden_state.numpy())
"""


def with_attention(name):
    model = tiny("llama")
    if name == block_attention.NAME:
        block_attention.use_on(model)
    else:
        packed_attention.register(model)
    assert model.config._attn_implementation == name
    return model


@pytest.mark.parametrize("name", [block_attention.NAME, packed_attention.NAME])
def test_a_model_runs_where_it_is_unpickled(name, tmp_path):
    model = with_attention(name)
    (tmp_path / "model").write_bytes(pickle.dumps((model, model.config)))
    done = processes.run(ARRIVES, tmp_path / "model", name, tmp_path / "states.npy")
    assert done.returncode == 0, done.stderr
    with torch.inference_mode():
        expected = model(input_ids=torch.arange(1, 41)[None], use_cache=False).last_hidden_state
    np.testing.assert_array_equal(np.load(tmp_path / "states.npy"), expected.numpy())


def test_a_copy_and_its_config_keep_the_name():
    model = copy.deepcopy(with_attention(block_attention.NAME))
    again = pickle.loads(pickle.dumps(model.config._attn_implementation))
    assert again == model.config._attn_implementation == block_attention.NAME
    assert pickle.loads(pickle.dumps(again)) == again  # it can be sent on from there
    assert block_attention.NAME not in model.config.to_json_string()  # and is not written to a folder
    assert transformers.AutoModel.from_config(model.config).config._attn_implementation == block_attention.NAME


def test_every_attention_is_registered_in_this_way():
    calls = ("AttentionInterface.register(", "AttentionMaskInterface.register(", "AttentionInterface._global_mapping")
    folders = (ROOT / "src", *(ROOT / "integrations").glob("*/src"))
    files = [path for folder in folders for path in folder.rglob("*.py")]
    assert [path.name for path in files if any(call in path.read_text() for call in calls)] == ["registration.py"]
