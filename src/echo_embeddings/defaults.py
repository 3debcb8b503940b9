"""Choose the config of an encoder that was given none: the one saved with the model, else a suitable preset.

And say what is known of a model before it is loaded, so that what cannot work is refused at once.
"""

from __future__ import annotations

import json
from pathlib import Path

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.config.files import ARRAYS_FILE, CONFIG_FILE, read_object
from echo_embeddings.errors import ConfigError, ModelError
from echo_embeddings.model.spec import ModelSpec
from echo_embeddings.vectors.transforms import left_out

__all__ = ["config_for", "known_config", "known_width", "loss", "saved_config"]

# What an adapter gets used to in training.
_TRAINED_WITH = ("template", "query_template", "pooling", "start_layer", "exit_layer")
# Where sentence-transformers saves the prompts of a model, and which of them it takes for documents and for queries.
_PROMPTS_FILE = "config_sentence_transformers.json"
_PROMPT_NAMES = (("document", "passage", "corpus"), ("query",))
# The hidden size of the built-in model.
_BUILTIN_WIDTH = 576
# How transformers' configs call the hidden size.
_WIDTHS = ("hidden_size", "n_embd", "d_model")


def config_for(spec: ModelSpec) -> EchoConfig:
    """Choose the config of a model for which the user gave none.

    - A model with an adapter in a folder: the config that is saved with that adapter, as training writes it.
    - The built-in model: ``"default"``. With an adapter that has no config: ``"zero-shot"``, because that adapter
      replaces the packaged one of ``"default"``.
    - Any other model: the config that is saved with it, else ``"echo"``, the paper's method.

    The prompts that sentence-transformers saved beside a config are put into its templates, so that vectors are those
    of its ``encode_document`` and ``encode_query``.

    Raises:
        ConfigError: the saved config, or the file of prompts beside it, cannot be used.
    """
    if spec.adapter is not None and Path(spec.adapter).is_dir():
        saved = _prompted(ModelSpec(spec.adapter))
        if saved is not None:
            return saved
    if spec.model is None:
        return EchoConfig.preset("default" if spec.adapter is None else "zero-shot")
    saved = None if spec.is_loaded else _prompted(spec)
    return EchoConfig.preset("echo") if saved is None else saved


def saved_config(spec: ModelSpec) -> EchoConfig | None:
    """Load the echo config that is saved with a model; ``None`` if there is none.

    Raises:
        ConfigError: it is damaged, or not the one that belongs to the model.
        ModelError: it cannot be found out whether there is one.
    """
    from echo_embeddings.model.checks import mark_of
    from echo_embeddings.model.hub import find_file

    config = find_file(spec, CONFIG_FILE)
    marked = mark_of(spec)
    if config is None:
        if marked is not None:
            raise ConfigError(
                f"{spec.name!r} has no {CONFIG_FILE}, but its other files say that one belongs to it; save the model "
                "again, or say which config to use, such as EchoEncoder(model, config='echo')"
            )
        return None
    arrays = find_file(spec, ARRAYS_FILE)
    found = EchoConfig.from_files(Path(config), None if arrays is None else Path(arrays))
    if marked not in (None, found.fingerprint()):
        raise ConfigError(
            f"{config}{'' if arrays is None else f' or {ARRAYS_FILE}'} is not the one that was saved with this model, "
            "says config.json or echo_files.json beside it: it was damaged, or changed by something else. Save the "
            "model again; if you changed it on purpose, give it: EchoEncoder(model, config=EchoConfig.load(folder))"
        )
    return found


def _prompted(spec: ModelSpec) -> EchoConfig | None:
    """:func:`saved_config` with the prompts that are saved beside it."""
    from echo_embeddings.model.hub import find_file

    config = saved_config(spec)
    found = None if config is None else find_file(spec, _PROMPTS_FILE)
    if config is None or found is None:
        return config
    prompts = _prompts(Path(found))
    if not any(prompts):
        return config
    pairs = zip(config.templates, prompts, strict=True)
    document, query = (template.prompted(prompt) if prompt else template for template, prompt in pairs)
    return config.replace(template=document, query_template=query)


def _prompts(file: Path) -> tuple[str | None, str | None]:
    """The prompts for documents and for queries, as ``encode_document`` and ``encode_query`` choose them."""
    content = read_object(file)
    prompts, default = content.get("prompts") or {}, content.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(prompt, str | None) for prompt in prompts.values()):
        raise ConfigError(f"{file}: prompts={prompts!r:.200}: give texts by name, such as {{'query': 'query: '}}")
    if default is not None and (not isinstance(default, str) or default not in prompts):
        known = ", ".join(map(repr, prompts)) or "none"
        raise ConfigError(f"{file}: default_prompt_name={default!r:.200} is none of its prompts ({known})")
    document, query = (
        next((prompts[name] for name in (*names, default) if name in prompts), None) for names in _PROMPT_NAMES
    )
    return document, query


def loss(spec: ModelSpec, config: EchoConfig) -> str:
    """What is lost if ``config`` takes the place of the one that is saved with the model; empty if it is nothing.

    Only folders are looked at, that of the adapter first, and nothing is loaded.
    """
    folders = [name for name in (spec.adapter, spec.model) if isinstance(name, str) and Path(name).is_dir()]
    try:
        found = ((folder, saved_config(ModelSpec(folder))) for folder in folders)
        folder, saved = next(((name, one) for name, one in found if one is not None), ("", None))
    except (ConfigError, ModelError):
        return ""  # the user gave another one
    if saved is None:
        return ""
    instead = "leave config= out, or change the saved one: EchoConfig.load(folder).replace(...)"
    if lost := left_out(saved.transforms, config.transforms):
        return (
            f"config= takes the place of the config that is saved in {folder!r}, and leaves out its map {lost[0]!r}, "
            f"which may be trained; {instead}"
        )
    changed = [name for name in _TRAINED_WITH if _differ(getattr(saved, name), getattr(config, name))]
    if (Path(folder) / "adapter_config.json").is_file() and changed:
        return (
            f"the adapter in {folder!r} was trained with the config that is saved beside it, and config= has another "
            f"{' and '.join(changed)}; {instead}"
        )
    return ""


def _differ(a: object, b: object) -> bool:
    """Whether two fields differ. A layer's number and a fraction of the depth may mean the same."""
    return a != b and not (float in {type(a), type(b)} and type(a) is not type(b))


def known_config(spec: ModelSpec) -> EchoConfig | None:
    """:func:`config_for` if that needs no network: for the built-in model, a folder, a loaded model; else ``None``.

    Raises:
        ConfigError: the saved config cannot be used.
    """
    if spec.model is None or spec.is_loaded:
        return config_for(spec)
    folder = Path(spec.model)
    is_here = (folder / CONFIG_FILE).exists() or (folder / "config.json").is_file()
    return config_for(spec) if is_here else None


def known_width(spec: ModelSpec) -> int | None:
    """Number of dimensions of a model's hidden states, as far as it is known before the model is loaded."""
    if spec.model is None:
        return _BUILTIN_WIDTH
    if spec.is_loaded:
        config = getattr(spec.model, "config", None)
        return getattr(config.get_text_config(), "hidden_size", None) if config is not None else None
    try:
        content = json.loads((Path(spec.model) / "config.json").read_text(encoding="utf-8"))
        parts = [content, content.get("text_config") or {}]
        widths = [part[name] for part in parts for name in _WIDTHS if isinstance(part.get(name), int)]
    except (OSError, ValueError, AttributeError, RecursionError):
        return None  # what is wrong with this file is said when the model is loaded
    return widths[0] if widths else None
