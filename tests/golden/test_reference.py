"""Our ids and vectors against those of the authors' code (README.md beside this file says how they were made)."""

import json
from pathlib import Path

import numpy as np
import pytest

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.model import builtin
from tests.conftest import cosines

REFERENCE = json.loads((Path(__file__).parent / "reference_echo.json").read_text(encoding="utf-8"))
CASES = {
    "zero_shot_echo": ("echo", "document"),
    "zero_shot_classical": ("classical", "document"),
    "finetuned_query": ("echo-finetuned", "query"),
    "finetuned_document": ("echo-finetuned", "document"),
}
PARAMETERS = [
    pytest.param(case, EchoConfig.preset(name).template_for(role), id=case) for case, (name, role) in CASES.items()
]


@pytest.fixture(scope="module")
def gguf(builtin_folder, tmp_path_factory):
    """The GGUF file itself, in float32: the built-in model's cache is bf16 and would not be the reference's weights."""
    installed = builtin.installed()
    path = installed or builtin.downloaded(tmp_path_factory.mktemp("gguf"))
    return EchoEncoder(path, EchoConfig("{text}", max_length=64), dtype="float32", on_truncate="ignore")


def vectors(gguf, template, pooling, instruction):
    config = EchoConfig(template, pooling=pooling, max_length=REFERENCE["max_length"])
    return gguf.with_config(config).encode_queries(REFERENCE["texts"], instruction=instruction)


@pytest.mark.parametrize(("case", "template"), PARAMETERS)
def test_ids_and_pooled_positions_are_the_authors(gguf, case, template):
    tokenizer = gguf.with_config(EchoConfig(template)).runtime.tokenizer
    layout = tokenizer.layout(template, REFERENCE["cases"][case]["instruction"])
    contents = tokenizer.contents(REFERENCE["texts"], spaced=template.spaced, limit=REFERENCE["max_length"])
    for content, row in zip(contents, REFERENCE["cases"][case]["rows"], strict=True):
        assert layout.assemble(content.ids).tolist() == row["ids"]
        pooled = layout.pooled(len(content.ids))
        assert np.flatnonzero(row["pool"]).tolist() == list(range(pooled.start, pooled.stop))


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize(("case", "template"), PARAMETERS)
def test_vectors_are_the_authors(gguf, case, template, pooling):
    expected = np.array([row[pooling] for row in REFERENCE["cases"][case]["rows"]], dtype=np.float32)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = vectors(gguf, template, pooling, REFERENCE["cases"][case]["instruction"])
    assert cosines(found, expected).min() >= 0.99999
