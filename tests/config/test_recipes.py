"""Recipes of models: which model each is for, and what it changes of the rule."""

import json

import pytest

from echo_embeddings import EchoConfig
from echo_embeddings.config import presets
from echo_embeddings.config.recipes import RULE, Facts, recipe_for, recipes
from echo_embeddings.vectors.lexical import Lexical


def test_the_rule_has_the_words_of_the_default_and_nothing_fitted_to_a_model():
    rule = EchoConfig.preset(RULE)
    assert rule.lexical == EchoConfig.preset("default").lexical
    assert rule.replace(lexical=None) == EchoConfig.preset("late-echo")


def test_every_recipe_says_what_it_is_for_and_where_it_was_measured():
    rule = EchoConfig.preset(RULE)
    assert [recipe.name for recipe in recipes()] == ["gemma-3-270m", "smollm2-135m"]
    for recipe in recipes():
        content = json.loads((presets.PRESETS_FOLDER / "models" / f"{recipe.name}.json").read_text())
        assert set(content) == {"about", "measured", "model", "config"}
        assert recipe.about
        assert recipe.measured
        assert recipe_for(recipe.model) is recipe
        assert recipe.config.layers(recipe.model.num_hidden_layers).start > 0
        assert recipe.config.lexical.digest() != rule.lexical.digest() or recipe.name == "smollm2-135m"
        assert recipe.config.transforms == ()


def test_the_recipe_of_gemma_has_shorter_words():
    gemma = recipe_for(Facts("gemma3_text", 640, 18)).config
    assert (gemma.start_layer, gemma.exit_layer) == (11, 13)
    assert [gemma.lexical.weight(role) for role in ("document", "query")] == [0.25, 0.5]
    assert isinstance(gemma.lexical, Lexical)


def test_a_model_of_another_size_has_no_recipe():
    assert recipe_for(Facts("llama", 576, 32)) is None
    assert recipe_for(None) is None


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        ({"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 3}, Facts("llama", 8, 3)),
        ({"model_type": "gpt2", "n_embd": 8, "n_layer": 3}, Facts("gpt2", 8, 3)),
        (
            {"model_type": "gemma3", "text_config": {"model_type": "t", "hidden_size": 8, "num_hidden_layers": 3}},
            Facts("t", 8, 3),
        ),
        ({"model_type": "llama", "hidden_size": 8}, None),
        ({"model_type": "llama", "hidden_size": 8, "num_hidden_layers": True}, None),
        ({"model_type": "llama", "hidden_size": "8", "num_hidden_layers": 3}, None),
        ({"model_type": 7, "hidden_size": 8, "num_hidden_layers": 3}, None),
        ({"text_config": "?"}, None),
        ({}, None),
    ],
)
def test_facts_are_read_from_a_config(content, facts):
    assert Facts.of(content) == facts
