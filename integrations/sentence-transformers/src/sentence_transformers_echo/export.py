"""Export an echo model that loads without this package: its tokenizer repeats the text by itself.

That works if the copy is made of tokens (``start_layer=0``), the last token is pooled, the final norm is applied, and
no words stand beside the echo. Late echo, pooling over a whole copy, and words need ``EchoModule``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling
from tokenizers import Regex, normalizers
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from echo_embeddings import ConfigError, EchoEncoder, ModelError, Template, notices
from echo_embeddings.engine.runtime import Runtime
from echo_embeddings.model import manifest
from echo_embeddings.saving import written
from echo_embeddings.text.layout import Layout

from .module import EchoModule

__all__ = ["export_stock"]

# Prose has four to five. A text with more on average would be truncated to fewer tokens than by EchoEncoder.
_CHARACTERS_A_TOKEN = 16
_PROBES = ("The ferry leaves at dawn.", "spaces  and\nlines ", "a long text " * 2000)


def export_stock(
    model: EchoEncoder | SentenceTransformer,
    path: str | os.PathLike[str],
    *,
    role: str = "document",
    instruction: str | None = None,
) -> None:
    """Write a folder that ``SentenceTransformer(path)`` loads, without ``trust_remote_code`` and without this package.

    Such a stock model has one template for all texts, so one role is exported. If the roles' templates differ, export
    two folders. Any other engine gets the same vectors if it reads ``tokenizer.json``, pools the last token and scales
    to unit length.

    Args:
        model: an encoder, or a ``SentenceTransformer`` with an ``EchoModule``. Weights keep the dtype in which it runs.
        path: the folder; made if it does not exist.
        role: ``"document"`` (the default) or ``"query"``: the role whose template becomes part of the tokenizer.
        instruction: for a template with ``{instruction}``; it becomes part of the tokenizer too.

    Raises:
        ConfigError: a stock model cannot do what the config says; the message says what to change.
        ModelError: the tokenizer, loaded from the folder, gives other tokens than the encoder.
    """
    runtime = model.runtime if isinstance(model, EchoEncoder) else _runtime(model)
    if role not in ("document", "query"):
        raise ConfigError(f"role={role!r} is unknown; choose 'document' or 'query'")
    template = runtime.config.templates[role == "query"]
    layout = runtime.layout(template, instruction)
    _require_stock(runtime, layout)
    folder = Path(path).expanduser()
    with written(folder) as unfinished:
        _write(unfinished, runtime, role, template, layout, instruction)


def _write(
    folder: Path, runtime: Runtime, role: str, template: Template, layout: Layout, instruction: str | None
) -> None:
    with notices.loading_bars():
        runtime.backbone.model.save_pretrained(folder)
    manifest.unmark(folder)
    _tokenizer(runtime, template, instruction).save_pretrained(folder)
    _require_echo(folder, runtime, template, layout)
    modules = [Pooling(runtime.backbone.dimension, "lasttoken"), *_transforms(runtime), Normalize()]
    _write_modules(folder, modules)
    (folder / "README.md").write_text(_CARD.format(role=role, template=template.text, limit=runtime.limit_of(layout)))


def _runtime(model: SentenceTransformer) -> Runtime:
    if not isinstance(model[0], EchoModule):
        raise ModelError(f"the first module is a {type(model[0]).__name__}, not an EchoModule; there is no echo in it")
    return model[0].runtime


def _require_stock(runtime: Runtime, layout: Layout) -> None:
    """Check that a stock model can do what the config says.

    It can only copy tokens, pool the last token of the sequence, and apply the final norm.
    """
    config, layers = runtime.config, runtime.backbone.layers
    if layers.start != 0:
        raise ConfigError(
            f"start_layer={layers.start}: a stock model cannot copy hidden states; export with start_layer=0, or use "
            "save(), whose folder needs this package"
        )
    if config.pooling != "last":
        raise ConfigError(
            f"pooling={config.pooling!r} is over the last copy, but stock pooling knows no copies; export with "
            "pooling='last', or use save(), whose folder needs this package"
        )
    if not layers.final_norm:
        raise ConfigError(
            f"the config leaves layer {layers.exit} without the final norm, but a stock model always applies it; set "
            "final_norm=True in the config (the vectors change, so measure again)"
        )
    if layout.literals[-1] and not layout.pool_tail:
        raise ConfigError(
            "the template goes on behind the last {text}, but only the copy is pooled, and stock pooling takes the "
            "last token of all; end the template with {text}, or set pool_tail=True"
        )
    if config.lexical is not None:
        raise ConfigError(
            "the config has words beside the echo (lexical), and a stock model has no module that makes them; export "
            "with config.replace(lexical=None) (the vectors change, so measure again), or use save(), whose folder "
            "needs this package"
        )
    if config.transforms and runtime.backbone.model.dtype != torch.float32:
        raise ConfigError(
            f"transforms need float32, and a stock model would run them in {runtime.backbone.model.dtype}; export "
            "from EchoEncoder(..., dtype='float32')"
        )


def _tokenizer(runtime: Runtime, template: Template, instruction: str | None) -> PreTrainedTokenizerFast:
    """A tokenizer that repeats the text, of the class that uses ``tokenizer.json`` unchanged; without chat template."""
    layout, source = runtime.layout(template, instruction), runtime.tokenizer.source
    limit = runtime.limit_of(layout)
    baked = runtime.tokenizer.baked(template, instruction, limit=limit)
    # The post-processor also puts the truncated part of a text into the template, every piece with every other piece: a
    # book would fill the memory. So the normalizer first drops all characters that are far behind the first `limit`
    # tokens (\K: only what follows it is replaced).
    beyond = Regex(rf"(?m:\A.{{{limit * _CHARACTERS_A_TOKEN}}}\K.+)")
    before = [] if baked.normalizer is None else [baked.normalizer]
    baked.normalizer = normalizers.Sequence([normalizers.Replace(beyond, ""), *before])
    return PreTrainedTokenizerFast(
        tokenizer_object=baked,
        # Stock truncation subtracts the template's tokens from this, and truncates the text to the rest before copying.
        model_max_length=layout.overhead + limit,
        padding_side="right",
        truncation_side="right",
        # "<|im_end|>" in a user's text is ordinary text, as in EchoEncoder.
        split_special_tokens=True,
        model_input_names=["input_ids", "attention_mask"],
        bos_token=source.bos_token,
        eos_token=source.eos_token,
        unk_token=source.unk_token,
        pad_token=source.pad_token or source.eos_token or source.bos_token or source.convert_ids_to_tokens(0),
    )


def _require_echo(folder: Path, runtime: Runtime, template: Template, layout: Layout) -> None:
    """Check that the tokenizer, loaded as sentence-transformers loads it, gives the same tokens as the encoder."""
    loaded = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    contents = runtime.tokenizer.contents(_PROBES, spaced=template.spaced, limit=runtime.limit_of(layout))
    for text, content in zip(_PROBES, contents, strict=True):
        if loaded(text, truncation=True).input_ids != layout.assemble(content.ids).tolist():
            raise ModelError(
                f"the exported tokenizer ({type(loaded).__name__}) does not echo {text[:30]!r} as the encoder does; "
                "this tokenizer cannot be exported. Use save(), whose folder needs this package"
            )


def _transforms(runtime: Runtime) -> list[nn.Module]:
    """All transforms of the config as one affine map: a list of one ``Dense`` module, or an empty list."""
    if not runtime.config.transforms:
        return []
    dimension = runtime.backbone.dimension
    # In float64, because ``weight - bias`` below is a small difference of large numbers.
    bias: Any = np.zeros((1, dimension))
    weight: Any = np.eye(dimension)
    for transform in runtime.config.transforms:
        bias, weight = transform(bias), transform(weight)
    dense = Dense(
        dimension,
        runtime.dimension,
        activation_function=nn.Identity(),
        init_weight=torch.tensor((weight - bias).T.copy(), dtype=torch.float32),
        init_bias=torch.tensor(bias[0], dtype=torch.float32),
    )
    return [dense]


def _write_modules(folder: Path, modules: list[Any]) -> None:
    import sentence_transformers
    import transformers

    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}]
    for i, module in enumerate(modules, start=1):
        name, kind = f"{i}_{type(module).__name__}", type(module)
        (folder / name).mkdir(exist_ok=True)
        module.save(str(folder / name))
        listed.append({"idx": i, "name": str(i), "path": name, "type": f"{kind.__module__}.{kind.__qualname__}"})
    versions = {"sentence_transformers": sentence_transformers.__version__, "transformers": transformers.__version__}
    files = {
        "modules.json": listed,
        # Without this file a tokenizer's chat template, or a default of the architecture, would change the input.
        "sentence_bert_config.json": {
            "transformer_task": "feature-extraction",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            "module_output_name": "token_embeddings",
        },
        "config_sentence_transformers.json": {
            "model_type": "SentenceTransformer",
            "__version__": versions | {"pytorch": torch.__version__},
            "prompts": {"query": "", "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")


_CARD = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, echo-embeddings]
---

# An echo embedder

The model reads every text twice and its last token is the vector. `tokenizer.json` does the repeating, so nothing but
sentence-transformers is needed:

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("sentence_transformers_model_id")
vectors = model.encode(["The ferry leaves the island at dawn.", "Bread is baked from flour."])
print(model.similarity(vectors, vectors))
```

- Template, for the role *{role}*: `{template!r}`
- Texts are truncated to {limit} tokens before they are copied.
"""
