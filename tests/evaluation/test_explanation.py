"""What the second copy looks at: against a plain pass of the model, on several architectures, and as a page."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.errors import ConfigError, InputError, ModelError
from echo_embeddings.evaluation import explain
from echo_embeddings.evaluation.explanation import MOST_TOKENS, PARTS
from tests.architectures import small_tokenizer, tiny
from tests.conftest import TEXTS

TEXT = "The ferry leaves the island at dawn."
ECHO = EchoConfig(template="Write: {text}\nAgain: {text}")


def encoder(name="llama", config=ECHO, attention="eager"):
    return EchoEncoder(tiny(name, attn_implementation=attention), config, tokenizer=small_tokenizer(TEXTS))


def test_shares_maps_and_changes_are_those_of_a_plain_pass():
    model, tokenizer = tiny("llama", attn_implementation="eager"), small_tokenizer(TEXTS)
    echo = EchoEncoder(model, ECHO, tokenizer=tokenizer)
    found = explain(echo, TEXT)
    layout = echo.runtime.layout(ECHO.template_for("document"))
    (content,) = echo.runtime.tokenizer.contents([TEXT], spaced=True, limit=512)
    n = len(content.ids)
    ids = layout.assemble(content.ids)
    passed = model(input_ids=torch.tensor(ids[None]), output_attentions=True, output_hidden_states=True)
    start, end = layout.copy(0, n).start, layout.copy(1, n).start
    assert found.layers == [1, 2, 3, 4, 5, 6]
    for layer, weights in enumerate(one[0].detach().numpy() for one in passed.attentions):
        for head in range(len(weights)):
            shares = dict.fromkeys(PARTS, 0.0)
            for i in range(n):
                for place, weight in enumerate(weights[head, end + i]):
                    j, k = place - start, place - end
                    if 0 <= j < n:
                        part = "aligned" if i == j else "later" if j > i else "earlier"
                    elif 0 <= k <= i:
                        part = "itself" if k == i else "own copy"
                    else:
                        part = "words"
                    shares[part] += weight / n
            np.testing.assert_allclose(found.shares[layer, head], list(shares.values()), atol=1e-5)
        np.testing.assert_allclose(
            found.maps[layer], weights[:, end : end + n, start : start + n].mean(axis=0), atol=1e-6
        )
    states = passed.last_hidden_state[0].detach().numpy()
    a, b = (
        states[place : place + n] / np.linalg.norm(states[place : place + n], axis=1)[:, None] for place in (start, end)
    )
    np.testing.assert_allclose(found.changes, 1 - (a * b).sum(axis=1), atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3", "qwen3", "gpt-neox", "gpt2"])
@pytest.mark.parametrize("start", [0, 3])
def test_shares_sum_to_1_on_every_architecture_and_with_late_echo(name, start):
    found = explain(encoder(name, ECHO.replace(start_layer=start, exit_layer=5)), TEXT)
    assert found.layers == list(range(start + 1, 6))
    assert found.shares.shape == (5 - start, 4, 6)
    np.testing.assert_allclose(found.shares.sum(axis=-1), 1, atol=1e-5)
    assert (found.shares >= -1e-6).all()
    assert found.changes.max() > 0.01


def test_the_pieces_are_the_text():
    for text in TEXTS:
        if len(text) < 110:
            assert "".join(explain(encoder(), text).tokens) == text


def test_the_page_is_whole_loads_nothing_and_cannot_be_broken_by_a_text(tmp_path):
    text = 'a</script><script>alert("x")</script> @@DATA@@ <b>& é'
    explain(encoder(), text).save(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href|url|import|fetch)\s*[=(]", page)
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("</script>") == 1
    assert "a&lt;/script&gt;" in page
    assert page.count("@@") == 2  # the text's own, in the title
    with pytest.raises(InputError, match=r"page.html exists; add --overwrite \(overwrite=True\)"):
        explain(encoder(), TEXT).save(tmp_path / "page.html")
    explain(encoder(), TEXT).save(tmp_path / "page.html", overwrite=True)
    assert "alert" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_text_with_half_a_character_is_read_as_an_encoder_reads_it(tmp_path):
    found = explain(encoder(), "a\ud83d ferry")
    assert "".join(found.tokens) == found.text == "a\ufffd ferry"
    replace(found, model="folder\udcff").save(tmp_path / "page.html")  # a path that is no UTF-8
    assert "folder\ufffd" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_what_cannot_be_explained_is_said():
    with pytest.raises(TypeError, match="text must be a string, not list"):
        explain(encoder(), ["a"])
    with pytest.raises(
        ConfigError, match="the text stands once in the template 'Write: {text}', so there is no second"
    ):
        explain(encoder(config=EchoConfig(template="Write: {text}")), TEXT)
    for text in ("", " \n"):
        with pytest.raises(InputError, match="the text is empty; give a sentence to explain"):
            explain(encoder(), text)
    with pytest.raises(InputError, match=r"the text has \d+ tokens, and at most \d+ can be explained; give a shorter"):
        explain(encoder(), "ferry " * MOST_TOKENS)
    with pytest.raises(ModelError, match="attention of LlamaModel cannot be read; load the model with attn_impl"):
        explain(encoder(attention="sdpa"), TEXT)
