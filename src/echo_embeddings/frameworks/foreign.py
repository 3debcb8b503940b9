"""Arguments that other classes of the same frameworks have: the harmless ones are accepted, others refused.

People put our classes where ``HuggingFaceEmbeddings`` or ``HuggingFaceEmbedding`` was, and keep its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Encoding", "encoding", "foreign_fields", "named_prompt", "split_model_kwargs"]


@dataclass(frozen=True)
class Foreign:
    """An argument of another library's class that ours does not have.

    Attributes:
        harmless: whether a value asks for nothing, or for what is true anyway; it is then accepted.
        instead: what a user of our class does instead.
    """

    harmless: Callable[[Any], bool]
    instead: str


def _unset(value: Any) -> bool:
    return value in (None, False, "", "deprecated") or value == {}


def _flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _count(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0)


def _true(value: Any) -> bool:
    return value is None or value is True


def _only(*values: str) -> Callable[[Any], bool]:
    return lambda value: value is None or (isinstance(value, str) and value in values)


_UNIT = Foreign(_true, "vectors always have unit length, so that inner products are cosines; leave it out")
_DEVICES = Foreign(_unset, "give devices=['cuda:0', 'cuda:1'] or devices=['cpu', 'cpu']: a process for each of them")
_BATCHES = Foreign(
    _count, "give a whole number, or leave it out: batches are made by length, and batch_tokens= limits them"
)
_POOLING = Foreign(_unset, "pooling is part of the config: config=EchoConfig.preset('echo').replace(pooling='mean')")
_PROMPT = Foreign(
    _unset,
    "words before every text are part of the config: template = config.templates[0].prompted('passage: '), and then "
    "config=config.replace(template=template)",
)
_LENGTH = Foreign(_unset, "give max_length=, in tokens of the text")
_DIMENSIONS = Foreign(_unset, "give dimensions=")
_TOKENIZER = Foreign(_unset, "a tokenizer goes with its loaded model: encoder=EchoEncoder(model, tokenizer=tokenizer)")
_NAME = Foreign(_unset, "give model_name=")
_LOADING = Foreign(_unset, "it goes to from_pretrained: model_kwargs={{{name!r}: {value!r}}}")
_FLOATS = Foreign(_only("float32"), "documents and queries need the same one: give precision= beside encode_kwargs")
_TORCH = Foreign(_only("torch"), "the model runs on torch only; leave it out")

#: Fields of other classes of the same frameworks, such as ``HuggingFaceEmbeddings`` and ``HuggingFaceEmbedding``.
FIELDS: Mapping[str, Foreign] = {
    "normalize": _UNIT,
    "normalize_embeddings": _UNIT,
    "multi_process": _DEVICES,
    "parallel_process": _DEVICES,
    "target_devices": _DEVICES,
    "batch_size": _BATCHES,
    "embed_batch_size": _BATCHES,
    "chunk_size": _BATCHES,
    "pooling": _POOLING,
    "pooling_mode": _POOLING,
    "text_instruction": _PROMPT,
    "embed_instruction": _PROMPT,
    "prompt": _PROMPT,
    "prompts": _PROMPT,
    "prompt_name": _PROMPT,
    "default_prompt_name": _PROMPT,
    "instruction": Foreign(_unset, "give query_instruction=, for a query template with {{instruction}}"),
    "max_seq_length": _LENGTH,
    "max_tokens": _LENGTH,
    "truncate_dim": _DIMENSIONS,
    "tokenizer": _TOKENIZER,
    "tokenizer_name": _TOKENIZER,
    "tokenizer_kwargs": _TOKENIZER,
    "processor_kwargs": _TOKENIZER,
    "model": Foreign(_unset, "give model_name= for a name, or encoder=EchoEncoder(model, tokenizer=tokenizer)"),
    "model_id": _NAME,
    "model_name_or_path": _NAME,
    "cache_dir": Foreign(_unset, "give cache_folder="),
    "torch_dtype": Foreign(_unset, "give dtype="),
    "trust_remote_code": _LOADING,
    "revision": _LOADING,
    "token": _LOADING,
    "use_auth_token": _LOADING,
    "local_files_only": _LOADING,
    "device_map": _LOADING,
    "quantization_config": _LOADING,
    "attn_implementation": _LOADING,
    "backend": _TORCH,
    "similarity_fn_name": Foreign(_only("cosine", "dot"), "compare unit vectors by their inner product; leave it out"),
    "show_progress_bar": Foreign(_unset, "give show_progress=True"),
}

# Arguments of SentenceTransformer that HuggingFaceEmbeddings takes in model_kwargs, and that from_pretrained lacks.
_MODEL_KWARGS: Mapping[str, Foreign] = {
    "backend": _TORCH,
    "similarity_fn_name": FIELDS["similarity_fn_name"],
    "truncate_dim": _DIMENSIONS,
    "max_length": _LENGTH,
    "max_seq_length": _LENGTH,
    "tokenizer_kwargs": _TOKENIZER,
    "processor_kwargs": _TOKENIZER,
    "config_kwargs": Foreign(_unset, "give its entries to model_kwargs"),
    "cache_folder": Foreign(_unset, "give cache_folder= beside model_kwargs"),
}

# Arguments of SentenceTransformer.encode that HuggingFaceEmbeddings takes in encode_kwargs.
_ENCODE_KWARGS: Mapping[str, Foreign] = {
    "normalize_embeddings": _UNIT,
    "batch_size": _BATCHES,
    "chunk_size": _BATCHES,
    "convert_to_numpy": Foreign(_flag, "give True or False; vectors are lists of floats in any case"),
    "convert_to_tensor": Foreign(_flag, "give True or False; vectors are lists of floats in any case"),
    "precision": _FLOATS,
    "output_value": Foreign(_only("sentence_embedding"), "EchoEncoder.encode_tokens gives a vector for each token"),
    "truncate_dim": _DIMENSIONS,
    "pool": _DEVICES,
}


@dataclass(frozen=True)
class Encoding:
    """What ``encode_kwargs`` ask for.

    Attributes:
        show_progress: whether to show a progress bar.
        instruction: the task, for queries.
        prompt: words before each text; ``""`` for none, ``None`` to take the one of ``prompt_name`` or of the role.
        prompt_name: which of the named prompts to use.
        device: where to run; ``None`` for the encoder's device.
    """

    show_progress: bool = False
    instruction: str | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    device: str | None = None


def foreign_fields(data: Mapping[str, Any], own: Collection[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Find arguments of other classes of the framework: the harmless ones go, the others are refused.

    Args:
        data: all arguments.
        own: the names of the arguments that the class itself has.

    Returns:
        The arguments that are left; and what to do instead, for each one that is refused.
    """
    kept, refused = dict(data), {}
    for name in [name for name in data if name not in own and name in FIELDS]:
        value = kept.pop(name)
        if not FIELDS[name].harmless(value):
            refused[name] = FIELDS[name].instead.format(name=name, value=value)
    return kept, refused


def encoding(kwargs: Mapping[str, Any], *, query: bool) -> Encoding:
    """Read arguments for ``SentenceTransformer.encode``: what is harmless is accepted, the rest is refused.

    Args:
        kwargs: the arguments.
        query: whether they are for queries, which may have an ``instruction``.

    Raises:
        ValueError: an argument is unknown or cannot be; the message says what to do instead.
    """
    own = [field.name for field in fields(Encoding) if query or field.name != "instruction"]
    own.sort(key=lambda name: (name != "instruction", name != "show_progress"))
    valid = [*own, "show_progress_bar", *_ENCODE_KWARGS]
    if unknown := sorted(set(kwargs) - set(valid)):
        raise ValueError(
            f"unknown key {unknown[0]!r}; valid: {', '.join(valid)}. Batches are made by length, and vectors always "
            "have unit length"
        )
    _refuse(kwargs, _ENCODE_KWARGS)
    for name in ("instruction", "prompt", "prompt_name", "device"):
        if not isinstance(kwargs.get(name), str | None):
            more = "; several devices go in as devices=" if name == "device" else ""
            raise ValueError(f"{name} must be a string, not {type(kwargs[name]).__name__}{more}")  # noqa: TRY004 - pydantic wants it
    chosen = {name: kwargs[name] for name in own if name in kwargs}
    return Encoding(**chosen | {"show_progress": bool(kwargs.get("show_progress") or kwargs.get("show_progress_bar"))})


def named_prompt(asked: Encoding, model_kwargs: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The prompt of a role, as ``encode_query`` and ``encode_document`` of sentence-transformers find it.

    Args:
        asked: the arguments of the role; its ``prompt`` comes first, then its ``prompt_name``.
        model_kwargs: may have ``prompts``, a dict, and ``default_prompt_name``.
        names: names of prompts that belong to the role, such as ``["query"]``.

    Raises:
        ValueError: a name is not among the ``prompts``.
    """
    prompts = model_kwargs.get("prompts") or {}
    if not isinstance(prompts, Mapping) or not all(isinstance(one, str | None) for one in prompts.values()):
        raise ValueError(f"prompts={prompts!r}: give a dict of strings, such as {{'query': 'query: '}}")
    if asked.prompt is not None:
        return asked.prompt
    named = {"prompt_name": asked.prompt_name, "default_prompt_name": model_kwargs.get("default_prompt_name")}
    for argument, name in named.items():
        if name is not None and name not in prompts:
            known = f"choose one of {', '.join(map(repr, prompts))}" if prompts else "there are none"
            raise ValueError(
                f"{argument}={name!r} is unknown; {known}. Give model_kwargs={{'prompts': {{...}}}}, or one prompt as "
                "encode_kwargs={'prompt': '...'}"
            )
    chosen = [asked.prompt_name, *(name for name in names if name in prompts), named["default_prompt_name"]]
    return next((prompts[name] for name in chosen if name is not None), None)


def _refuse(given: Mapping[str, Any], table: Mapping[str, Foreign]) -> None:
    for name, value in given.items():
        if name in table and not table[name].harmless(value):
            raise ValueError(f"{name}={value!r}: {table[name].instead.format(name=name, value=value)}")


def split_model_kwargs(model_kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Tell arguments of ``from_pretrained`` from those of ``SentenceTransformer``, of which only the device is used.

    Returns:
        The arguments of ``from_pretrained``, and the device.

    Raises:
        ValueError: an argument cannot be; the message says what to do instead.
    """
    _refuse(model_kwargs, _MODEL_KWARGS)
    foreign = {*_MODEL_KWARGS, "prompts", "default_prompt_name", "device", "model_kwargs"}
    inner = model_kwargs.get("model_kwargs") or {}
    return {**inner, **{name: value for name, value in model_kwargs.items() if name not in foreign}}, model_kwargs.get(
        "device"
    )
