"""Models of other sizes with random weights: throughput knows shapes, not values.

Weights are drawn where they are used, on the device and in bf16, from one seed: seconds for 7B parameters, which would
take minutes through a file. Whoever loads such a model by ``AutoModel.from_pretrained`` in a process that has called
:func:`made_in_place` gets it, so contenders load it with their own code. All shapes read with the built-in model's
tokenizer, so all get the same tokens.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, MistralConfig

from echo_embeddings.model import builtin

#: Mistral-7B-v0.3's, from its published config (no sliding window); the built-in model's; and one to try the command.
SHAPES = {
    "mistral-7b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "smollm2-135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "tiny": {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
#: Who takes part: what needs no statistics of the built-in model.
CONTENDERS = ("st-echo-best", "st-classical-best", "ours-echo", "ours-late-echo", "ours-classical")
SEED = 0


def folder(shape: str, tokenizer: Path | None = None) -> Path:
    """A folder with such a model's config and a tokenizer, the built-in model's by default, but without weights."""
    place = Path(tempfile.gettempdir()) / f"echo-bench-{shape}"
    if not (place / "done").exists():
        reader = AutoTokenizer.from_pretrained(tokenizer or builtin.folder())
        config = MistralConfig(
            **SHAPES[shape],
            vocab_size=len(reader),
            sliding_window=None,
            max_position_embeddings=32768,
            architectures=["MistralModel"],
            dtype=torch.bfloat16,
        )
        config.save_pretrained(place)
        reader.save_pretrained(place)
        (place / "done").touch()
    return place


def made_in_place(device: str) -> None:
    """From now on this process draws weights wherever it would load a model; call it nowhere else than in a guest."""

    def from_pretrained(name: str, *_: Any, config: Any = None, dtype: Any = None, **options: Any) -> Any:
        known = {key: options[key] for key in ("attn_implementation",) if key in options}
        return made(config or AutoConfig.from_pretrained(name), device, dtype, **known)

    AutoModel.from_pretrained = from_pretrained


def made(config: Any, device: str, dtype: torch.dtype | str | None, **options: Any) -> Any:
    """A model with the weights of the seed, as they are in bf16, whatever dtype they are then kept in."""
    torch.manual_seed(SEED)
    with torch.device(device):
        model = AutoModel.from_config(config, dtype=torch.bfloat16, **options)
    kept = getattr(torch, dtype) if isinstance(dtype, str) and dtype != "auto" else dtype
    if isinstance(kept, torch.dtype) and kept != torch.bfloat16:
        # Parameters alone, one by one: rotary angles stay in float32, and no second copy of all weights is needed.
        for parameter in model.parameters():
            parameter.data = parameter.data.to(kept)
        model.config.dtype = kept
    return model.eval()
