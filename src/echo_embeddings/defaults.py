"""Choose the config of an encoder that was given none: the one saved with the model, else a recipe or a rule.

And say what is known of a model before it is loaded, so that what cannot work is refused at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from echo_embeddings.config.config import EchoConfig
from echo_embeddings.config.files import ARRAYS_FILE, CONFIG_FILE, read_object
from echo_embeddings.config.recipes import RULE, WIDTHS, Facts, recipe_for
from echo_embeddings.errors import ConfigError, ModelError
from echo_embeddings.model.spec import ModelSpec
from echo_embeddings.vectors.transforms import left_out

__all__ = ["Choice", "choice_for", "known_choice", "known_width", "loss", "saved_config", "why_not"]

# What an adapter gets used to in training.
_TRAINED_WITH = ("template", "query_template", "pooling", "start_layer", "exit_layer")
# Where sentence-transformers saves the prompts of a model, and which of them it takes for documents and for queries.
_PROMPTS_FILE = "config_sentence_transformers.json"
_PROMPT_NAMES = (("document", "passage", "corpus"), ("query",))
# What a model has that was made for sentence-transformers.
_MODULES_FILE = "modules.json"
# The hidden size of the built-in model.
_BUILTIN_WIDTH = 576
# Architectures on which late echo is tested (tests/architectures.py), so that nothing needs to be looked at. For others
# a model without weights is made, which takes torch.
_LATE_ECHO = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "olmo2", "smollm3", "gpt_neox", "gpt2"}
)
_RULED = "the rule for any model"


@dataclass(frozen=True)
class Choice:
    """A config that was chosen for a user who gave none.

    Attributes:
        config: the config.
        notice: what to tell the user of it, once; empty where the model came with it.
    """

    config: EchoConfig
    notice: str = ""


def choice_for(spec: ModelSpec, *, prompted: bool = True, may_convert: bool = False) -> Choice:
    """Choose the config of a model for which the user gave none.

    - A model with an adapter in a folder: the config that is saved with that adapter, as training writes it.
    - The built-in model: ``"default"``. With an adapter that has no config: ``"zero-shot"``, because that adapter
      replaces the packaged one of ``"default"``.
    - Any other model: the config that is saved with it. If there is none, the recipe that was measured for this model
      (``config/recipes.py``), else the rule ``"any-model"``: late echo, and words beside it. Where late echo cannot
      run, the tokens are repeated instead, as in the paper.

    Args:
        spec: the model.
        prompted: put the prompts that sentence-transformers saved beside a config into its templates, so that vectors
            are those of its ``encode_document`` and ``encode_query``.
        may_convert: convert a GGUF file now if that was not done yet, because the model is loaded next. Else its head
            is read, which takes seconds.

    Raises:
        ConfigError: the saved config, or the file of prompts beside it, cannot be used.
        ModelError: there is no such model, or its ``config.json`` is damaged.
    """
    if (settled := _settled(spec, prompted=prompted)) is not None:
        return settled
    facts = None if spec.is_loaded else _facts(spec, may_convert=may_convert)
    return _known_recipe(spec, facts) or _ruled(spec, facts)


def known_choice(spec: ModelSpec) -> Choice | None:
    """:func:`choice_for` if that asks no network and imports no torch that is not there already; else ``None``.

    So it is for the built-in model, a loaded model, and a folder with a saved config or of an architecture that we
    know.

    Raises:
        ConfigError: the saved config cannot be used.
    """
    if spec.model is None or spec.is_loaded:
        return choice_for(spec)
    folder = Path(spec.model)
    if not (folder / CONFIG_FILE).exists() and not (folder / "config.json").is_file():
        return None
    return _settled(spec) or _known_recipe(spec, _facts_in(folder / "config.json"))


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
        widths = [part[name] for part in parts for name in WIDTHS if isinstance(part.get(name), int)]
    except (OSError, ValueError, AttributeError, RecursionError):
        return None  # what is wrong with this file is said when the model is loaded
    return widths[0] if widths else None


def why_not(spec: ModelSpec, config: EchoConfig) -> str:
    """Why a model's architecture cannot run a config, as far as late echo goes; empty if it can.

    Nothing is asked for where the config has no late echo. Else the model's ``config.json`` is read, and for an
    architecture that we do not know a model without weights is made.

    Raises:
        ModelError: there is no such model, or its ``config.json`` is damaged.
    """
    if not config.start_layer or spec.model is None:
        return ""
    facts = None if spec.is_loaded else _facts(spec, may_convert=False)
    if facts is not None and facts.model_type in _LATE_ECHO and _runs_as_known(spec):
        try:
            config.layers(facts.num_hidden_layers)
        except ConfigError as error:
            return str(error)
        return ""
    from echo_embeddings.model.skeleton import why_no_late_echo

    return why_no_late_echo(spec, config)


def _settled(spec: ModelSpec, *, prompted: bool = True) -> Choice | None:
    """What needs no recipe: a saved config, or the built-in model."""
    read = _prompted if prompted else saved_config
    if spec.adapter is not None and Path(spec.adapter).is_dir() and (saved := read(ModelSpec(spec.adapter))):
        return Choice(saved)
    if spec.model is None:
        return Choice(EchoConfig.preset("default" if spec.adapter is None else "zero-shot"))
    saved = None if spec.is_loaded else read(spec)
    return None if saved is None else Choice(saved)


def _known_recipe(spec: ModelSpec, facts: Facts | None) -> Choice | None:
    """The recipe or the rule, for an architecture of which we know that late echo runs on it; else ``None``."""
    if facts is None or not _runs_as_known(spec):
        return None
    if (recipe := recipe_for(facts)) is not None:
        return Choice(recipe.config, _notice(spec, f"the recipe for {recipe.about}: {_in_words(recipe.config)}"))
    rule = EchoConfig.preset(RULE)
    try:
        rule.layers(facts.num_hidden_layers)
    except ConfigError:  # too few layers
        return None
    return Choice(rule, _notice(spec, f"{_RULED}: {_in_words(rule)}")) if facts.model_type in _LATE_ECHO else None


def _runs_as_known(spec: ModelSpec) -> bool:
    """Whether an architecture runs as transformers has it, with masks that late echo can narrow."""
    kwargs = spec.model_kwargs
    return kwargs.get("attn_implementation") != "flex_attention" and not kwargs.get("trust_remote_code")


def _ruled(spec: ModelSpec, facts: Facts | None) -> Choice:
    """The recipe or the rule, as far as the model's architecture allows it, which is looked at."""
    from echo_embeddings.model.skeleton import why_no_late_echo

    if spec.is_loaded:
        to_dict = getattr(getattr(spec.model, "config", None), "to_dict", None)
        facts = Facts.of(to_dict()) if callable(to_dict) else None
    recipe = recipe_for(facts)
    chosen = EchoConfig.preset(RULE) if recipe is None else recipe.config
    name = _RULED if recipe is None else f"the recipe for {recipe.about}"
    if fault := why_no_late_echo(spec, chosen):
        name = f"{_RULED}, without late echo ({fault.partition(';')[0]})"
        chosen = EchoConfig.preset(RULE).replace(start_layer=0, exit_layer=None)
    return Choice(chosen, _notice(spec, f"{name}: {_in_words(chosen)}"))


def _notice(spec: ModelSpec, chosen: str) -> str:
    model = "FOLDER" if spec.is_loaded else spec.name
    return (
        f"{spec.name} has no saved config, so it is run by {chosen}. echo-embeddings tune {model} TEXTS --output NEW "
        "finds what suits your texts, without labels; config='echo' is the paper's method" + _embeds_already(spec)
    )


def _embeds_already(spec: ModelSpec) -> str:
    """What to say of a model that was trained to embed, in another way than ours; else nothing."""
    from echo_embeddings.model.hub import find_file

    try:
        found = None if spec.is_loaded else find_file(spec, _MODULES_FILE)
    except ModelError:  # not known, and nothing depends on it but this hint
        found = None
    if found is None:
        return ""
    return (
        f". {spec.name} was made as an embedding model for sentence-transformers ({_MODULES_FILE}), and the pooling "
        "and prompts that it was trained with are not used here: SentenceTransformer(model) runs it with those"
    )


def _in_words(config: EchoConfig) -> str:
    start, exit_ = config.start_layer, config.exit_layer
    echo = f"late echo, layers {start} to {exit_}" if start and isinstance(start, int) else ""
    if start and not echo:
        echo = f"late echo from {start:g} to {exit_:g} of the depth"
    words = "" if config.lexical is None else f", words of length {config.lexical.weight('document'):g} beside it"
    return (echo or "the text twice, as in the paper") + words


def _facts(spec: ModelSpec, *, may_convert: bool) -> Facts | None:
    """What the model's ``config.json`` says; ``None`` if there is none, or it does not say enough."""
    from echo_embeddings.model.adapter_files import with_base
    from echo_embeddings.model.checks import explained
    from echo_embeddings.model.hub import find_file

    if spec.location().endswith(".gguf") or "gguf_file" in spec.model_kwargs:
        from echo_embeddings.model.conversion import from_cache

        with explained(spec):
            files = from_cache(spec, may_convert=may_convert)
        if files is spec:
            from echo_embeddings.model.loading import config_of

            return Facts.of(config_of(spec).to_dict())
        spec = files
    found = find_file(spec, "config.json")
    if found is None:  # an adapter
        found = find_file(with_base(spec), "config.json")
    return None if found is None else _facts_in(Path(found))


def _facts_in(path: Path) -> Facts | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # what is wrong with this file is said when the model is loaded
    return Facts.of(content) if isinstance(content, Mapping) else None
