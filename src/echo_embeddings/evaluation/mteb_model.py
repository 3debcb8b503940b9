"""An ``EchoEncoder`` as mteb wants a model: roles and instructions kept, and a name that no other vectors have."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mteb.abstasks.abstask import get_abstask_prompt
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction

from echo_embeddings.config.config import CONTEXT
from echo_embeddings.config.summary import short_name
from echo_embeddings.data.files import whole_file
from echo_embeddings.encoder import EchoEncoder
from echo_embeddings.errors import ConfigError
from echo_embeddings.model import builtin
from echo_embeddings.types import Role, Vectors

from .comparison import as_floats

__all__ = ["MTEBEncoder", "local_name"]

Show = Callable[[str, int, int], object]

# Texts that are embedded, and kept, together: no more are lost where a run is killed.
_KEPT_TOGETHER = 1024
# The most bytes of a model's name: a name in a path has at most 255.
_LONGEST_NAME = 100


class MTEBEncoder(AbsEncoder):  # type: ignore[misc]  # mteb is read without types
    """A model for mteb 2, made from an ``EchoEncoder``: ``mteb.evaluate(MTEBEncoder(encoder), tasks)``.

    What mteb calls a query goes through the query template, what it calls a document through the document template. A
    query template with a place for an instruction gets that of the task.

    Its ``mteb_model_meta`` names the weights, the config and the dtype. mteb keeps results by that name, and so never
    takes the score of one model for that of another.

    Args:
        encoder: the encoder; or a model's name or path, as mteb's own registry gives it.
        revision: the revision of a model on a hub; only with a name.
        device: as ``EchoEncoder`` takes it; only with a name.
        role: the template for texts that mteb gives no role, such as the pairs of STS: ``"document"`` (the default, as
            :func:`echo_embeddings.evaluation.compare` does) or ``"query"``.
        instructions: for a query template with ``{instruction}``: one instruction for all tasks, or a dict from names
            of tasks (``"SciFact"``) or of their types (``"STS"``) to instructions. ``None``, and what is not in the
            dict, is the instruction of the task itself.
        options: other arguments of ``EchoEncoder``; only with a name.

    Raises:
        ConfigError: the role is unknown, or there are instructions and the query template has no place for one.
    """

    def __init__(
        self,
        encoder: EchoEncoder | str,
        revision: str | None = None,
        *,
        device: str | None = None,
        role: Role = "document",
        instructions: str | Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        if isinstance(encoder, str):
            if revision is not None:
                options["model_kwargs"] = {**options.get("model_kwargs", {}), "revision": revision}
            encoder = EchoEncoder(encoder, device=device, **options)
        elif revision is not None or device is not None or options:
            named = ", ".join(["revision"] * (revision is not None) + ["device"] * (device is not None) + [*options])
            raise ConfigError(f"{named}: the encoder is made already; give the name of a model, or leave them out")
        if role not in ("document", "query"):
            raise ConfigError(f"role={role!r} is unknown; give 'document' or 'query'")
        template = encoder.config.templates[1]
        if instructions is not None and not template.takes_instruction:
            raise ConfigError(
                f"instructions={instructions!r:.80} were given, but the query template {template.text!r} has no "
                "{instruction}; use a config whose query template has one, or leave them out"
            )
        self.model = encoder
        self.role: Role = role
        self.instructions = instructions
        #: Called with what is being embedded, the texts that are done, and how many there are.
        self.show: Show = lambda *_: None
        #: Where vectors are kept until their task is scored, so that a killed run can go on; ``None`` for nowhere.
        self.unfinished: Path | None = None

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """What mteb knows of the model. Nothing is loaded for it."""
        return ModelMeta.create_empty(
            {
                "name": self._name(),
                "revision": self.model.weights_fingerprint()[:16],
                "experiment_kwargs": self._experiment(),
                "max_tokens": None if (most := self.model.config.max_length) == CONTEXT else most,
                "similarity_fn_name": ScoringFunction.COSINE,
                "framework": ["PyTorch", "Transformers"],
                "use_instructions": self.model.config.templates[1].takes_instruction,
            }
        )

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,  # noqa: ARG002
        hf_subset: str,  # noqa: ARG002
        prompt_type: Any = None,
        precision: str | None = None,
        **_: Any,
    ) -> Vectors:
        """Embed what a task asks for: float32 ``[n, dim]`` of unit length.

        Args:
            inputs: batches of ``{"text": [...]}``; their size does not matter, the encoder makes its own.
            task_metadata: what the task is; its instruction is taken from it.
            hf_split: not used.
            hf_subset: not used.
            prompt_type: mteb's query or document; ``None`` is the ``role`` of this model.
            precision: ``None`` or ``"float32"``; other ones cannot be had.

        Raises:
            ConfigError: another precision is asked for.
        """
        if precision not in (None, "float32"):
            raise ConfigError(f"precision={precision!r}: vectors are float32 here; leave it out")
        texts = [text for batch in inputs for text in batch["text"]]
        role: Role = self.role if prompt_type is None else "query" if prompt_type.value == "query" else "document"
        instruction = self.instruction(task_metadata) if role == "query" else None
        row = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        vectors = self._embed(list(row), role, instruction)
        return vectors if len(row) == len(texts) else vectors[[row[text] for text in texts]]

    def instruction(self, task_metadata: Any) -> str | None:
        """The instruction for a task's queries; ``None`` where the query template has no place, or one of its own."""
        if not self.model.config.templates[1].takes_instruction:
            return None
        if isinstance(self.instructions, str):
            return self.instructions
        for key in (task_metadata.name, task_metadata.type):
            if self.instructions is not None and key in self.instructions:
                return self.instructions[key]
        own = task_metadata.prompt
        if isinstance(own, dict):
            own = own.get("query")
        return own or get_abstask_prompt(task_metadata.name) or None

    def _embed(self, texts: list[str], role: Role, instruction: str | None) -> Vectors:
        label, done = f"{role[:-1]}ies" if role == "query" else f"{role}s", 0
        self.show(label, 0, len(texts))

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self.show(label, done, len(texts))

        found = []
        for start in range(0, len(texts), _KEPT_TOGETHER):
            chunk = texts[start : start + _KEPT_TOGETHER]
            kept = self._kept(chunk, role, instruction)
            if (vectors := _read(kept, len(chunk))) is None:
                if role == "query":
                    vectors = self.model.encode_queries(chunk, instruction=instruction, show_progress=advance)
                else:
                    vectors = self.model.encode_documents(chunk, show_progress=advance)
                _write(kept, vectors)
            done = start + len(chunk)
            found.append(as_floats(self.model, vectors))
        return np.concatenate(found) if found else as_floats(self.model, self.model.encode_documents([]))

    def _kept(self, texts: list[str], role: Role, instruction: str | None) -> Path | None:
        if self.unfinished is None:
            return None
        asked = json.dumps([role, instruction, texts]).encode()
        return self.unfinished / f"{hashlib.sha256(asked).hexdigest()[:32]}.npy"

    def _name(self) -> str:
        """As mteb wants it, ``organisation/model``. Of a path the last part is enough: weights have a name too."""
        name = self.model.model_name
        if name == builtin.NAME:
            return f"echo-embeddings/{name}"
        if self.model.options.model is not None and name.count("/") == 1 and not Path(name).exists():
            return name
        return local_name(name)

    def _experiment(self) -> dict[str, str]:
        config, options = self.model.config, self.model.options
        is_loaded = options.model is None and self.model.model_name != builtin.NAME
        found = {
            "config": short_name(config),
            "fingerprint": config.fingerprint()[:16],
            # A loaded model's dtype is in the fingerprint of its weights.
            "dtype": "loaded" if is_loaded else self.model.computed_in.partition(" ")[2].removeprefix("torch."),
        }
        if options.on_truncate == "split":  # the other policies read the same tokens
            found["long"] = "split"
        if options.precision != "float32":
            found["precision"] = options.precision
        if options.model_kwargs:
            found["more"] = _digest(sorted(options.model_kwargs.items(), key=str))
        if self.role != "document":
            found["role"] = self.role
        if self.instructions is not None:
            asked = self.instructions if isinstance(self.instructions, str) else sorted(self.instructions.items())
            found["instructions"] = _digest(asked)
        return found


def local_name(path: str) -> str:
    """The name of a model in a folder or file, or of a class, as mteb wants it; it is part of a path.

    ``.`` has a name too: that of the folder that it means.
    """
    name = Path(path).name if Path(path).name not in ("", "..") else Path(path).resolve().name
    plain = re.sub(r"[^\w.@+-]+", "_", name).strip("_").encode()[:_LONGEST_NAME].decode(errors="ignore")
    return f"local/{plain or 'model'}"


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:8]


def _read(path: Path | None, count: int) -> Vectors | None:
    """So many vectors that were kept; ``None`` if there are none, or somebody has damaged them."""
    if path is None or not path.is_file():
        return None
    try:
        found: Vectors = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.ndim == 2 and len(found) == count else None


def _write(path: Path | None, vectors: Vectors) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        np.save(file, vectors)
