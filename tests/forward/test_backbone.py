"""Compare late echo with references that share no code with it: numbers on paper, and sub-models in transformers."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, MambaConfig, MambaModel, PreTrainedModel

from echo_embeddings import ConfigError, EchoConfig, ModelError
from echo_embeddings.config.config import Layers
from echo_embeddings.forward.backbone import Backbone
from echo_embeddings.forward.batch import Batch
from echo_embeddings.forward.pooling import last_pooling, mean_pooling
from echo_embeddings.forward.speed import block_attention
from echo_embeddings.model.loading import prepare
from echo_embeddings.text.layout import Layout
from tests.architectures import CONFIGS, backbone, tiny

PLAIN = Layout(((5, 6), (7, 8, 9), ()))
TAILED = Layout(((5, 6), (7, 8), (9, 3)), pool_tail=True)
WINDOWED = ("mistral-window", "gemma2", "gemma3")
CONTENTS = [np.array([11, 12, 13, 14]), np.array([21, 22]), np.array([31, 32, 33, 34, 35, 36, 37])]


def run(model, layout, contents, layers):
    batch = Batch.of(contents, layout, "cpu")
    with torch.inference_mode():
        return Backbone(model, layers)(batch), batch


# --- on paper: the state of the token at position t is t, and every layer adds 100 ------------------------------------


class _PositionLayer(nn.Module):
    def forward(self, hidden_states, position_ids=None):
        return hidden_states + 100


class _Positions(PreTrainedModel):
    """A model without weights and attention, whose states are known beforehand."""

    def __init__(self, depth):
        super().__init__(LlamaConfig(num_hidden_layers=depth))
        self.embed = nn.Embedding(97, 1)
        self.layers = nn.ModuleList(_PositionLayer() for _ in range(depth))
        self.norm = nn.Identity()

    def get_input_embeddings(self):
        return self.embed

    def forward(self, input_ids, use_cache):
        positions = torch.arange(input_ids.shape[1])[None]
        hidden = positions[..., None].expand(*input_ids.shape, 1).float()
        for layer in self.layers:
            hidden = layer(hidden, position_ids=positions)
        return type("Output", (), {"last_hidden_state": self.norm(hidden)})


def positions(layout, lengths, start, exit_):
    contents = [np.arange(1, n + 1) for n in lengths]
    return run(_Positions(exit_), layout, contents, Layers(start, exit_, exit_, final_norm=True))


def test_only_the_second_copy_is_pooled():
    # The sequence is P P a b c S S S a b c: the second copy is at 8, 9, 10.
    hidden, batch = positions(PLAIN, [3], start=0, exit_=2)
    assert mean_pooling(hidden, batch.pooled).item() == 9 + 200
    assert last_pooling(hidden, batch.pooled).item() == 10 + 200


def test_padding_is_not_pooled():
    # The second text has one token. Its second copy is at 6 in P P a S S S a, and the batch is padded to 11.
    hidden, batch = positions(PLAIN, [3, 1], start=0, exit_=1)
    assert batch.ids.tolist()[1] == [5, 6, 1, 7, 8, 9, 1, 0, 0, 0, 0]
    assert mean_pooling(hidden, batch.pooled).flatten().tolist() == [109, 106]


def test_left_padding_is_pooled_alike():
    hidden, batch = positions(PLAIN, [3, 1], start=0, exit_=1)
    # Roll the short row to the right, as if it had been padded on the left.
    rolled, mask = hidden.clone(), batch.pooled.clone()
    rolled[1], mask[1] = hidden[1].roll(4, 0), batch.pooled[1].roll(4, 0)
    assert torch.equal(mean_pooling(rolled, mask), mean_pooling(hidden, batch.pooled))


@pytest.mark.parametrize("copies", [2, 3, 4])
def test_the_last_of_n_copies_is_pooled(copies):
    layout = Layout(((5,), *[(7,)] * (copies - 1), ()))
    hidden, batch = positions(layout, [3], start=0, exit_=1)
    # Copy k (from 0) begins at 1 + 4k; its middle token is at 2 + 4k.
    assert mean_pooling(hidden, batch.pooled).item() == 2 + 4 * (copies - 1) + 100


@pytest.mark.parametrize("copies", [2, 3])
def test_late_echo_copies_the_first_copys_states(copies):
    layout = Layout(((5,), *[(7,)] * (copies - 1), ()))
    hidden, batch = positions(layout, [3], start=1, exit_=3)
    # Every copy starts from the states of positions 1, 2, 3 and has gone through 3 layers in all.
    assert mean_pooling(hidden, batch.pooled).item() == 2 + 300
    assert hidden.shape[1] == layout.total(3)


def test_late_echo_moves_the_tail_behind_the_copy():
    # The sequence is P P a b S S a b T T: the tail is at 8, 9 from the first layer on.
    hidden, batch = positions(TAILED, [2], start=2, exit_=3)
    assert hidden.flatten().tolist() == [300, 301, 302, 303, 304, 305, 302, 303, 308, 309]
    assert batch.pooled[0].nonzero().flatten().tolist() == [6, 7, 8, 9]


# --- against transformers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_start_0_is_the_models_own_forward_pass(name):
    model = tiny(name)
    hidden, batch = run(model, PLAIN, CONTENTS, Layers(0, 6, 6, final_norm=True))
    with torch.inference_mode():
        expected = model(input_ids=batch.ids, use_cache=False).last_hidden_state
    assert torch.equal(hidden, expected)
    for row, content in enumerate(CONTENTS):
        with torch.inference_mode():
            alone = model(input_ids=torch.tensor(PLAIN.assemble(content))[None]).last_hidden_state[0]
        copy_ = alone[PLAIN.copy(-1, len(content))].mean(0)
        torch.testing.assert_close(mean_pooling(hidden, batch.pooled)[row], copy_, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_an_early_exit_is_the_hidden_state_there(name):
    model = tiny(name)
    hidden, batch = run(model, PLAIN, CONTENTS, Layers(0, 4, 6, final_norm=False))
    with torch.inference_mode():
        states = model(input_ids=batch.ids, use_cache=False, output_hidden_states=True).hidden_states
    torch.testing.assert_close(hidden, states[4], rtol=1e-5, atol=1e-5)


def without_layers(model, first, last):
    """A deep copy of a model that has only layers ``first .. last - 1`` and no final norm, run by its own forward."""
    part = copy.deepcopy(model)
    name = "h" if hasattr(part, "h") else "layers"
    setattr(part, name, nn.ModuleList(list(getattr(part, name))[first:last]))
    for norm in ("norm", "ln_f", "final_layer_norm"):
        if hasattr(part, norm):
            setattr(part, norm, nn.Identity())
    part.config.num_hidden_layers = last - first
    if getattr(part.config, "layer_types", None):
        part.config.layer_types = part.config.layer_types[first:last]
    return part


def reference(model, layout, content, start, exit_):
    """Late echo of one text in two plain forward passes: the first pass, then the rest on doubled hidden states."""
    ids = torch.tensor(layout.assemble(content))
    first, expansion = torch.tensor(layout.first_pass(len(content))), torch.tensor(layout.expansion(len(content)))
    lower = without_layers(model, 0, start)(input_ids=ids[first][None], use_cache=False).last_hidden_state
    doubled = lower[:, expansion]
    if model.config.model_type == "gpt2":  # GPT-2 would add the position embeddings a second time
        doubled = doubled - model.wpe(torch.arange(len(ids)))
    return without_layers(model, start, exit_)(inputs_embeds=doubled, use_cache=False).last_hidden_state[0]


@pytest.mark.parametrize("start", [1, 3])
@pytest.mark.parametrize("name", CONFIGS)
def test_late_echo_equals_two_plain_passes(name, start):
    model = tiny(name)
    hidden, _ = run(model, PLAIN, CONTENTS, Layers(start, 5, 6, final_norm=False))
    for row, content in enumerate(CONTENTS):
        with torch.inference_mode():
            expected = reference(model, PLAIN, content, start, 5)
        pooled = PLAIN.pooled(len(content))
        torch.testing.assert_close(hidden[row, pooled], expected[pooled], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_late_echo_with_a_tail_and_with_masks(attention):
    """The tail keeps its position in the doubled sequence from the first layer on; eager attention has real masks."""
    model = tiny("llama", attn_implementation=attention)
    model.set_attn_implementation(attention)
    hidden, _ = run(model, TAILED, CONTENTS, Layers(2, 4, 6, final_norm=False))
    for row, content in enumerate(CONTENTS):
        n = len(content)
        ids, first = torch.tensor(TAILED.assemble(content)), torch.tensor(TAILED.first_pass(n))
        causal = torch.ones(len(first), len(first), dtype=torch.bool).tril()[None, None]
        if attention == "eager":
            causal = torch.where(causal, 0.0, torch.finfo(torch.float32).min)
        with torch.inference_mode():
            lower = without_layers(model, 0, 2)(
                input_ids=ids[first][None], position_ids=first[None], attention_mask=causal, use_cache=False
            ).last_hidden_state
            upper = without_layers(model, 2, 4)(inputs_embeds=lower[:, TAILED.expansion(n)], use_cache=False)
        pooled = TAILED.pooled(n)
        torch.testing.assert_close(hidden[row, pooled], upper.last_hidden_state[0, pooled], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in WINDOWED])
def test_a_prefix_that_is_run_once_changes_nothing(name, start):
    model = tiny(name).double()  # exact enough to compare
    block_attention.use_on(model)
    ready = backbone(model, Layers(start, 5, 6, final_norm=False))
    assert ready.takes_prefix
    whole, rest = Batch.of(CONTENTS, TAILED, "cpu"), Batch.of(CONTENTS, TAILED.without_prefix(), "cpu")
    with torch.inference_mode():
        expected = mean_pooling(ready(whole), whole.pooled)
        for _ in range(2):  # the second time the prefix is in the cache
            found = mean_pooling(ready(rest, TAILED.literals[0]), rest.pooled)
            torch.testing.assert_close(found, expected)


def test_a_prefix_is_not_split_off_where_attention_has_masks_or_is_torchs_own():
    layers = Layers(0, 6, 6, final_norm=True)
    assert not backbone(tiny("llama"), layers).takes_prefix
    for name in WINDOWED:
        model = tiny(name).double()
        block_attention.use_on(model)
        assert not backbone(model, layers).takes_prefix


def test_few_prefixes_are_kept():
    model = tiny("llama").double()
    block_attention.use_on(model)
    ready = backbone(model, Layers(0, 6, 6, final_norm=True))
    batch = Batch.of(CONTENTS, TAILED.without_prefix(), "cpu")
    with torch.inference_mode():
        for first in range(3, 15):
            ready(batch, (first, 4))
    assert len(ready._prefixes) == 8


def test_late_echo_differs_from_the_paper_and_from_no_echo():
    model = tiny("llama")
    full, _ = run(model, PLAIN, CONTENTS, Layers(0, 5, 6, final_norm=False))
    late, _ = run(model, PLAIN, CONTENTS, Layers(3, 5, 6, final_norm=False))
    assert not torch.allclose(full, late, atol=1e-2)


def test_the_users_model_is_not_changed():
    model = tiny("llama")
    before = dict(model.named_modules())
    Backbone(model, Layers(2, 4, 6, final_norm=False))
    assert dict(model.named_modules()) == before
    assert model.config.num_hidden_layers == 6


def test_gradients_flow_through_late_echo():
    model = tiny("llama")
    batch = Batch.of(CONTENTS, PLAIN, "cpu")
    hidden = Backbone(model, Layers(2, 4, 6, final_norm=False))(batch)
    mean_pooling(hidden, batch.pooled).sum().backward()
    assert model.layers[0].self_attn.q_proj.weight.grad.abs().sum() > 0
    assert model.layers[5].self_attn.q_proj.weight.grad is None


# --- what is refused --------------------------------------------------------------------------------------------------


def mamba():
    config = MambaConfig(vocab_size=97, hidden_size=16, num_hidden_layers=4, state_size=4)
    return MambaModel(config).eval()


def test_an_unknown_layer_signature_allows_start_0_only():
    model = mamba()
    hidden, _ = run(model, PLAIN, CONTENTS, Layers(0, 4, 4, final_norm=True))
    assert hidden.shape[-1] == 16
    with pytest.raises(ModelError, match=r"how to run MambaBlock \(its arguments: cache_params\); use start_layer=0"):
        Backbone(model, Layers(2, 4, 4, final_norm=True))


def test_a_bidirectional_model_is_refused():
    torch.manual_seed(0)
    bert = BertModel(BertConfig(vocab_size=97, hidden_size=16, num_hidden_layers=2, num_attention_heads=2))
    with pytest.raises(ModelError, match="BertModel is not a causal"):
        prepare(bert)


@pytest.mark.parametrize("name", CONFIGS)
def test_causal_models_are_accepted(name):
    assert prepare(tiny(name)) is not None


def test_what_is_no_model_is_refused():
    with pytest.raises(ModelError, match="model is a Linear; give a hub id, a path, or a transformers PreTrainedModel"):
        prepare(nn.Linear(2, 2))


def test_layers_beyond_the_model_are_refused():
    with pytest.raises(ConfigError, match="of a model with 6"):
        EchoConfig("{text}\n{text}", exit_layer=9).layers(6)
