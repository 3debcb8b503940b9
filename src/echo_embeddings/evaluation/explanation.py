"""What the second copy of a text looks at, token by token, and what that changes; as numbers and as a page."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.data.files import whole_file
from echo_embeddings.encoder import EchoEncoder
from echo_embeddings.engine.runtime import Runtime
from echo_embeddings.errors import ConfigError, InputError, ModelError
from echo_embeddings.forward.batch import Batch
from echo_embeddings.model.architecture import layers_of
from echo_embeddings.model.loading import load
from echo_embeddings.model.spec import ModelSpec
from echo_embeddings.options import EncoderOptions
from echo_embeddings.text.layout import Ids, Layout
from echo_embeddings.text.tokenizer import whole_characters
from echo_embeddings.types import require_encoder

__all__ = ["MOST_TOKENS", "PARTS", "Explanation", "explain"]

#: The most tokens of a text that is explained: a map of more cannot be looked at, and it grows with their square.
MOST_TOKENS = 160

#: Where the attention of a token of the last copy can go. Its six shares sum to 1.
PARTS = ("aligned", "earlier", "later", "itself", "own copy", "words")

_PAGE = Path(__file__).with_name("explanation.html")


@dataclass(frozen=True)
class Explanation:
    """What the last copy of a text looks at, and how much each token changes from the first copy to the last.

    Attributes:
        text: the text.
        model: the model's name.
        template: what the model read.
        tokens: the ``n`` pieces of the text.
        layers: the numbers of the ``m`` layers in which there is a last copy, from 1; with late echo not all.
        shares: float32 ``[m, heads, 6]``: the shares of attention that tokens of the last copy give to :data:`PARTS`,
            mean over the tokens. ``aligned`` is the same token in the first copy, ``earlier`` and ``later`` are the
            other tokens of the first copy, ``own copy`` the earlier tokens of the last copy, and ``words`` all others:
            the template, special tokens, and copies between the first and the last.
        maps: float32 ``[m, n, n]``: the attention of each token of the last copy (rows) to each token of the first
            (columns), mean over the heads.
        changes: float32 ``[n]``: 1 - cosine of each token's state in the first copy with that in the last, where
            vectors are pooled. The first copy is read as a classical embedding reads a text: no token sees what
            follows.
    """

    text: str
    model: str
    template: str
    tokens: list[str]
    layers: list[int]
    shares: NDArray[np.float32]
    maps: NDArray[np.float32]
    changes: NDArray[np.float32]

    def page(self) -> str:
        """A page of HTML with the map of attention and the tokens that change most. It loads nothing from elsewhere."""
        parts = {
            "TITLE": html.escape(self._short()),
            "MODEL": html.escape(self.model),
            "TEMPLATE": html.escape(self.template),
            "SHARES": self._share_rows(),
            "CHANGES": self._change_rows(),
            "DATA": self._data(),
        }
        page = _PAGE.read_text(encoding="utf-8")
        pieces = page.split("@@")  # text, name, text, name, ..., text
        return whole_characters("".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces)))

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the page.

        Args:
            path: an ``.html`` file.
            overwrite: whether the file may exist already.

        Raises:
            InputError: the file cannot be written there, or exists.
        """
        path = Path(path).expanduser()
        require_page(path, overwrite=overwrite)
        with whole_file(path) as unfinished:
            unfinished.write_text(self.page(), encoding="utf-8")

    def _short(self) -> str:
        return self.text if len(self.text) <= 80 else f"{self.text[:79]}…"

    def _share_rows(self) -> str:
        means = 100 * self.shares.mean(axis=(0, 1))
        said = (
            "the same token in the first copy",
            "earlier tokens of the first copy",
            "later tokens of the first copy, which a classical embedding never sees",
            "itself",
            "earlier tokens of its own copy",
            "the words around the copies and special tokens",
        )
        return "\n".join(
            f"<tr><td>{text}</td><td>{mean:.1f} %</td></tr>" for text, mean in zip(said, means, strict=True)
        )

    def _change_rows(self) -> str:
        rows = []
        for i in np.argsort(-self.changes, kind="stable")[:10].tolist():
            token = f"<code>{html.escape(self.tokens[i])}</code>"
            rows.append(f"<tr><td>{i + 1}</td><td>{token}</td><td>{self.changes[i]:.3f}</td></tr>")
        return "\n".join(rows)

    def _data(self) -> str:
        top = max(float(self.maps.max()), 1e-9)
        data = {
            "tokens": self.tokens,
            "layers": self.layers,
            "changes": [round(float(one), 4) for one in self.changes],
            "top": top,
            # A byte for each pair of tokens: 255 is the greatest attention of all maps.
            "maps": base64.b64encode(np.rint(self.maps / top * 255).astype(np.uint8).tobytes()).decode(),
        }
        # Nothing in a text may end the script that it stands in.
        return json.dumps(data, ensure_ascii=True).replace("<", "\\u003c").replace("@@", "\\u0040@")


def explain(encoder: EchoEncoder, text: str) -> Explanation:
    """See what the last copy of a text attends to, and which tokens it changes most.

    The model runs once, without what makes it faster, so that the attention of every layer and head can be read.
    Weights are loaded for that, unless the encoder was made of a loaded model. Fitted transforms and words play no
    part.

    Args:
        encoder: any model and any config in which the text stands twice.
        text: a text of up to :data:`MOST_TOKENS` tokens.

    Raises:
        InputError: the text is empty or too long.
        ConfigError: the text stands once in the config's template, so that there is no second copy.
        ModelError: the model does not show its attention; the message says how to load it.
    """
    require_encoder(encoder)
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, not {type(text).__name__}")
    text = whole_characters(text)  # as the tokenizer reads it, and as a page can hold it
    _require_copies(encoder.config)
    if not text.strip():
        raise InputError("the text is empty; give a sentence to explain")
    runtime = _with_attention(encoder)
    template = runtime.config.template_for("document")
    layout, limit = runtime.layout(template), runtime.limit("document")
    (content,) = runtime.tokenizer.contents([text], spaced=template.spaced, limit=min(limit, MOST_TOKENS))
    if content.truncated:
        raise InputError(
            f"the text has {len(content.ids) + content.truncated} tokens, and at most {len(content.ids)} can be "
            "explained; give a shorter one"
        )
    weights, states = _run(runtime, content.ids, layout)
    n = len(content.ids)
    first, last = layout.copy(0, n), layout.copy(-1, n)
    offsets = runtime.tokenizer.offsets(text, spaced=template.spaced)
    similar = torch.nn.functional.cosine_similarity(states[first], states[last], dim=1)
    return Explanation(
        text=text,
        model=encoder.model_name,
        template=template.text,
        tokens=_pieces(text, offsets),
        layers=list(range(runtime.backbone.layers.start + 1, runtime.backbone.layers.exit + 1)),
        shares=torch.stack([_shares(layer, first, last) for layer in weights]).numpy(),
        maps=torch.stack([layer[:, last, first].mean(dim=0) for layer in weights]).numpy(),
        changes=(1 - similar).clamp(min=0).numpy(),
    )


def require_page(path: Path, *, overwrite: bool) -> None:
    """Check the file of a page before any work is done.

    Raises:
        InputError: its suffix is not ``.html``, its folder does not exist, it is no regular file, or it exists and may
            not be overwritten.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{path}: the suffix {path.suffix!r} is unknown; write to a .html file")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; make it first")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no regular file; choose another output")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists; add --overwrite (overwrite=True) to write it anew, or choose another output")


def _require_copies(config: EchoConfig) -> None:
    template = config.template_for("document")
    if template.copies == 1:
        raise ConfigError(
            f"the text stands once in the template {template.text!r}, so there is no second copy to explain; use a "
            "config that repeats it, such as 'echo' or 'late-echo'"
        )


def _with_attention(encoder: EchoEncoder) -> Runtime:
    """The encoder's model and config with attention that can be read, and with nothing that makes a pass faster."""
    state = encoder.__getstate__()
    spec: ModelSpec = state["_spec"]
    if not spec.is_loaded:
        spec = replace(
            spec.for_config(encoder.config), model_kwargs={**spec.model_kwargs, "attn_implementation": "eager"}
        )
    options: EncoderOptions = state["_options"]
    return Runtime(load(spec), encoder.config, options.replace(speed=False, compiled=False, devices=None), spec)


def _run(runtime: Runtime, ids: Ids, layout: Layout) -> tuple[list[Tensor], Tensor]:
    """The attention of each layer with a last copy, ``[heads, tokens, tokens]``, and the states ``[tokens, dim]``."""
    layers = runtime.backbone.layers
    found: dict[int, Tensor] = {}

    def keep(number: int) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            for one in output if isinstance(output, tuple) else ():
                if (
                    isinstance(one, Tensor)
                    and one.ndim == 4
                    and one.shape[-1] == one.shape[-2] == layout.total(len(ids))
                ):
                    found[number] = one[0].float().cpu()

        return hook

    handles = [
        part.register_forward_hook(keep(number))
        for number, layer in enumerate(layers_of(runtime.backbone.model)[layers.start :])
        for name, part in layer.named_modules()
        if name
    ]
    try:
        with runtime.alone(), torch.inference_mode():
            states = runtime.backbone(Batch.of([ids], layout, runtime.backbone.device))[0].float().cpu()
    finally:
        for handle in handles:
            handle.remove()
    if len(found) != layers.exit - layers.start:
        raise ModelError(
            f"the attention of {type(runtime.backbone.model).__name__} cannot be read; load the model with "
            "attn_implementation='eager'"
        )
    return [found[number] for number in sorted(found)], states


def _pieces(text: str, offsets: NDArray[np.int64]) -> list[str]:
    """The text in one piece a token; spaces that no token holds go with the token behind them.

    A character that several tokens make up stands with the first of them.
    """
    ends = np.maximum.accumulate(offsets[:, 1])
    ends[-1] = len(text)
    return [text[start:end] for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]


def _shares(weights: Tensor, first: slice, last: slice) -> Tensor:
    """Where the tokens of the last copy look, ``[heads, parts]``, mean over the tokens; ``weights`` of one layer."""
    rows = weights[:, last]
    to_first, to_last = rows[..., first], rows[..., last]
    aligned, itself = (part.diagonal(dim1=1, dim2=2) for part in (to_first, to_last))
    earlier, later = to_first.tril(-1).sum(-1), to_first.triu(1).sum(-1)
    own = to_last.tril(-1).sum(-1)
    words = rows.sum(-1) - to_first.sum(-1) - to_last.sum(-1)
    return torch.stack([part.mean(dim=-1) for part in (aligned, earlier, later, itself, own, words)], dim=-1)
