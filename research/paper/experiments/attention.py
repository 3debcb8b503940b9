"""What the tokens of the second copy look at, layer by layer and head by head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from echo_embeddings import EchoConfig, EchoEncoder
from echo_embeddings.evaluation.explanation import PARTS, explain
from echo_embeddings.model import builtin
from research.paper.figures import heat_maps, lines
from research.paper.report import Section, Table
from research.paper.structures import triplets
from research.paper.study import Study, digest

NAME, NEEDS_DATA = "attention", False
SIZE, QUICK_SIZE = 24, 8
CONFIGS = {"echo": EchoConfig.preset("echo"), "late echo": EchoConfig.preset("late-echo")}
MEANING = {
    "aligned": "the same token in the first copy",
    "earlier": "earlier tokens of the first copy",
    "later": "later tokens of the first copy",
    "itself": "itself",
    "own copy": "earlier tokens of the second copy",
    "words": "the prompt and special tokens",
}


def run(study: Study) -> Section:
    """Measure all models and say what was found."""
    texts = [one.query for one in triplets("early", 0, QUICK_SIZE if study.quick else SIZE)]
    values = {model: _of_model(study, model, texts) for model in study.models}
    rows = [
        [model, name, *(100 * float(share) for share in found["shares"].mean(axis=(0, 1)))]
        for model, of_configs in values.items()
        for name, found in of_configs.items()
    ]
    table = Table(
        "Where the attention of the second copy goes, in percent: mean over its tokens, layers, heads and "
        f"{len(texts)} sentences.",
        ["model", "method", *MEANING.values()],
        rows,
    )
    by_layer = {
        f"{model}, {name}": {
            MEANING[part]: (found["layers"], [float(one) for one in 100 * found["shares"][:, :, i].mean(axis=1)])
            for i, part in enumerate(PARTS)
        }
        for model, of_configs in values.items()
        for name, found in of_configs.items()
    }
    later = {model: of_configs["echo"]["shares"] for model, of_configs in values.items()}
    figures: dict[str, tuple[Any, str]] = {
        "layers": (
            lines(by_layer, "layer", "share of attention, %"),
            "Where the attention of the second copy goes, by layer",
        ),
        "heads": (
            heat_maps(
                {model: (100 * shares[:, :, PARTS.index("later")].T).tolist() for model, shares in later.items()},
                {model: list(range(1, shares.shape[1] + 1)) for model, shares in later.items()},
                {model: list(range(1, shares.shape[0] + 1)) for model, shares in later.items()},
                ("head", "layer"),
            ),
            "Share of attention, in percent, that each head gives to later tokens of the first copy",
        ),
    }
    return Section(NAME, "What the second copy looks at", _findings(values), [table], figures)


def _of_model(study: Study, model: str, texts: list[str]) -> dict[str, dict[str, Any]]:
    found = {}
    for name, config in CONFIGS.items():
        key = {"model": study.fingerprint(model), "config": config.fingerprint()[:12], "data": digest(texts)}
        value = study.once(NAME, key, lambda config=config: measured(study.models[model], config, texts))
        found[name] = {"layers": value["layers"], "shares": np.array(value["shares"])}
    return found


def measured(model: str | None, config: EchoConfig, texts: list[str]) -> dict[str, Any]:
    """The numbers of the layers, and the shares of attention ``[layers, heads, parts]``, mean over texts.

    Args:
        model: what ``EchoEncoder`` loads.
        config: a config with two copies.
        texts: short texts.
    """
    folder = model or builtin.folder()
    body = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    # Loaded once here: explain() loads a model that it gets by its name.
    encoder = EchoEncoder(body, config, tokenizer=AutoTokenizer.from_pretrained(folder))
    explained = [explain(encoder, text) for text in texts]
    shares: NDArray[np.float64] = np.mean([one.shares for one in explained], axis=0, dtype=np.float64)
    return {"layers": explained[0].layers, "shares": [[[round(float(x), 5) for x in h] for h in m] for m in shares]}


def _findings(values: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    found = []
    for model, of_configs in values.items():
        shares, layers = of_configs["echo"]["shares"], of_configs["echo"]["layers"]
        mean = dict(zip(PARTS, 100 * shares.mean(axis=(0, 1)), strict=True))
        later, aligned = shares[:, :, PARTS.index("later")], shares[:, :, PARTS.index("aligned")]
        first = mean["aligned"] + mean["earlier"] + mean["later"]
        found.append(
            f"**{model}**: a token of the second copy gives {first:.0f} % of its attention to the first copy, and "
            f"{mean['later']:.0f} % to tokens there that come later than itself: that is what a classical embedding "
            f"cannot have. The prompt and special tokens, which many heads use as a place to look at when there is "
            f"nothing to see, get {mean['words']:.0f} %."
        )
        layer, head = (int(one) for one in np.unravel_index(int(later.argmax()), later.shape))
        copying = [int(one) for one in np.unravel_index(int(aligned.argmax()), aligned.shape)]
        by_layer = later.mean(axis=1)
        found.append(
            f"**{model}**: the look ahead is greatest in layer {layers[int(by_layer.argmax())]} "
            f"({100 * by_layer.max():.0f} % over its heads; head {head + 1} of layer {layers[layer]} reaches "
            f"{100 * later.max():.0f} %). Head {copying[1] + 1} of layer {layers[copying[0]]} gives "
            f"{100 * aligned.max():.0f} % to the same token of the first copy."
        )
    return found
