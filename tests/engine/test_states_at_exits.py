"""One pass gives the pooled states of every exit layer: each is that of an encoder which ends there."""

import numpy as np
import pytest

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder
from tests.architectures import CONFIGS, small_tokenizer, tiny
from tests.conftest import TEXTS

OFF = {"fused_layers": False, "last_layer": False}
TWICE, ONCE = "say\n{text}\n{text}", "say\n{text}"


def encoder(model, config, **options):
    return EchoEncoder(model, config, tokenizer=small_tokenizer(TEXTS), on_truncate="ignore", **options)


@pytest.mark.filterwarnings("ignore::echo_embeddings.errors.WindowWarning")
@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"mistral-window"}))
@pytest.mark.parametrize(("template", "start"), [(TWICE, 2), (TWICE, 0), (ONCE, 0)])
def test_each_exit_is_an_encoders(name, template, start):
    model = tiny(name)
    config = EchoConfig(template=template, start_layer=start, max_length=20)
    runtime = encoder(model, config, speed=OFF).runtime
    found = runtime.states_at_exits(TEXTS, "document")
    assert found.shape == (len(TEXTS), 6 - start + 1, 32)
    exits = [(layer, False) for layer in range(start + 1, 7)] + [(6, True)]
    for states, (layer, norm) in list(zip(found.swapaxes(0, 1), exits, strict=True))[:: 2 if start == 0 else 1]:
        ends = encoder(model, config.replace(exit_layer=layer, final_norm=norm), speed=OFF)
        expected = ends.encode_documents(TEXTS)
        unit = states / np.linalg.norm(states, axis=1, keepdims=True)
        np.testing.assert_allclose(unit, expected, atol=2e-5)


@pytest.mark.parametrize("config", [{"exit_layer": 4}, {}])
def test_it_needs_all_layers_as_they_are(config):
    runtime = encoder(tiny("llama"), EchoConfig(template=TWICE, start_layer=2, **config), speed={}).runtime
    if not config and not any(runtime.speed[name].on for name in OFF):
        pytest.skip("no speed-up is on here")
    with pytest.raises(ConfigError, match="states at every exit need a config with exit_layer=None, and speed="):
        runtime.states_at_exits(TEXTS, "document")
