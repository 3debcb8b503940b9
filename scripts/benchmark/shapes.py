"""Models of other sizes with random weights: throughput knows shapes, not values.

They read with the built-in model's tokenizer, so all shapes get the same tokens.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer, MistralConfig

from echo_embeddings import builtin

#: Mistral-7B-v0.3's, from its published config (no sliding window); and one to try the command with.
SHAPES = {
    "mistral-7b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
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


def folder(shape: str, device: str) -> Path:
    """A folder with such a model in bf16, made anew in the system's folder for temporary files if it is not there."""
    place = Path(tempfile.gettempdir()) / f"echo-bench-{shape}"
    if not (place / "done").exists():
        tokenizer = AutoTokenizer.from_pretrained(builtin.folder())
        config = MistralConfig(
            **SHAPES[shape], vocab_size=len(tokenizer), sliding_window=None, max_position_embeddings=32768
        )
        torch.manual_seed(0)
        with torch.device(device):
            model = AutoModel.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
        (place / "done").touch()
    return place
