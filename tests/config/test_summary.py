"""What is said of a config: its name, and how long its vectors are. No model."""

from dataclasses import replace

import numpy as np
import pytest

from echo_embeddings import EchoConfig
from echo_embeddings.config import presets
from echo_embeddings.config.recipes import recipes
from echo_embeddings.config.summary import fixed_dimension, short_name
from echo_embeddings.errors import ConfigError
from echo_embeddings.vectors.transforms import Standardize, Truncate

FITTED = Standardize(np.zeros(8, np.float32), np.ones(8, np.float32))


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_is_called_by_its_name(name):
    config = EchoConfig.preset(name)
    assert short_name(config) == name
    assert short_name(config.truncated(5)) == f"{name}@5"
    plain = "echo" if name == "compute-matched" else name  # which is echo with half the tokens
    assert short_name(replace(config, max_length=31)) == f"{plain}, max_length=31"


def test_a_recipe_is_called_by_the_name_of_its_model():
    for recipe in recipes():
        assert short_name(recipe.config) == f"recipe {recipe.name}"


def test_another_config_is_called_by_its_fingerprint():
    config = replace(EchoConfig.preset("echo"), pooling="last")
    assert short_name(config) == config.fingerprint()[:12]
    assert short_name(replace(config, packaged_adapter="gone")) == "with the adapter 'gone'"


def test_the_length_of_a_vector():
    plain, default = EchoConfig.preset("echo"), EchoConfig.preset("default")
    assert (plain.dimension(8), fixed_dimension(plain)) == (8, None)
    assert (default.dimension(576), fixed_dimension(default)) == (1024, 1024)
    assert default.truncated(256).dimension(576) == 256
    fitted = replace(plain, transforms=(Truncate(8), FITTED, Truncate(3)))
    assert (fitted.dimension(12), fixed_dimension(fitted)) == (3, 3)
    with pytest.raises(ConfigError, match="fitted on 576 dimensions, but these vectors have 8"):
        default.dimension(8)
    assert fixed_dimension(replace(plain, transforms=(FITTED, Truncate(9)))) is None
