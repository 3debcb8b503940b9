"""The model in training: an echo encoder with adapters, and with a linear head if there is a teacher.

Adapters and head are float32, whatever the dtype of the frozen weights, so that small steps are not rounded away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize
from torch import nn

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder
from echo_embeddings.config import presets
from echo_embeddings.extras import from_checkout
from echo_embeddings.forward.speed.compiled import compile_layers
from echo_embeddings.model import builtin, manifest
from echo_embeddings.model.device import pick_device
from echo_embeddings.vectors.transforms import Project, Standardize, Transform
from sentence_transformers_echo.folder import from_encoder, own_adapter
from sentence_transformers_echo.module import EchoModule
from sentence_transformers_echo.pooling import pooling_module

from .ranking import ranked
from .recipe import Lora, Recipe

__all__ = [
    "behind_pooling",
    "computing_in_half",
    "fit_head",
    "folded",
    "has_head",
    "make",
    "name_base",
    "restore",
    "store",
    "trained",
    "weights_of",
]

_FILE = "echo_trained.safetensors"


def make(recipe: Recipe) -> SentenceTransformer:
    """Make the model before its first step. Parameters that are trained have ``requires_grad``.

    Raises:
        ConfigError: ``dimension`` is more than the model has, ``lora`` does not fit the model, or that is an adapter.
        ImportError: peft is not installed.
    """
    config = recipe.echo_config.replace(max_length=recipe.max_length)
    if recipe.dimension is not None:
        config = config.replace(lexical=None)  # a head learns without the lexical part; ``folded`` adds it again
    device = pick_device(None)
    # On a CPU torch's fused attention has a slower backward pass than "eager" (research/log.md, 2026-11-20).
    options = {"attn_implementation": "eager"} if device == "cpu" else {}
    encoder = EchoEncoder(recipe.model, config, device, dtype=recipe.dtype, on_truncate="ignore", model_kwargs=options)
    if (beneath := own_adapter(encoder.options)) is not None:
        raise ConfigError(
            f"model={beneath!r} is an adapter, and an adapter trained on top of it could not be loaded; merge it into "
            "a model first: EchoEncoder(adapter).save_pretrained(folder), and give that folder"
        )
    model = from_encoder(encoder)
    model.requires_grad_(requires_grad=False)
    module = _module(model)
    add_adapters(module, recipe.lora)
    if recipe.lora.start is not None:
        _go_on_from(Path(recipe.lora.start).expanduser(), module, keeps_map=recipe.whiten == "start")
    if recipe.compiled:
        with computing_in_half(model):
            compile_layers(module.model, backwards=True)
        module.change()  # makes a new runtime: the old one runs the layers as they were before they were compiled
    if recipe.dimension is not None:
        if recipe.dimension > module.get_embedding_dimension():
            raise ConfigError(
                f"dimension={recipe.dimension} is more than the model's {module.get_embedding_dimension()}; "
                "choose at most that"
            )
        dense = Dense(module.get_embedding_dimension(), recipe.dimension, activation_function=nn.Identity())
        model = SentenceTransformer(
            modules=[module, model[1], dense, Normalize()], device=str(model.device), similarity_fn_name="cosine"
        )
    for parameter in trained(model).values():
        parameter.data = parameter.data.float()  # sentence-transformers casts later modules to the model's dtype
    return model


def weights_of(recipe: Recipe) -> str:
    """The fingerprint of the base model's weights. Nothing is loaded."""
    return EchoEncoder(recipe.model, recipe.echo_config).weights_fingerprint()


def add_adapters(module: EchoModule, lora: Lora) -> None:
    """Add LoRA matrices to the linear layers of ``lora.first_layer`` and above.

    Raises:
        ImportError: peft is not installed.
        ConfigError: no layer or module is left to train.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        hint = from_checkout("./integrations/sentence-transformers[train]")
        raise ImportError(f"training needs peft: {hint}") from error
    linear = [name for name, part in module.model.named_modules() if isinstance(part, nn.Linear)]
    # Decoder layers are numbered: "layers.6.self_attn.q_proj".
    places = [place for name in linear if (place := re.fullmatch(r"(.*?\b)(\d+)\.(.+)", name))]
    chosen = [
        place
        for place in places
        if int(place[2]) >= lora.first_layer and (lora.modules is None or place[3].rpartition(".")[2] in lora.modules)
    ]
    if not chosen:
        kinds = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        depth = module.model.config.get_text_config().num_hidden_layers
        raise ConfigError(
            f"lora: first_layer={lora.first_layer}, modules={lora.modules} leave nothing to train; this model runs "
            f"layers 0 to {depth - 1} and has the modules {kinds}"
        )
    stacks, numbers, parts = (
        "|".join(re.escape(part) for part in dict.fromkeys(place[i] for place in chosen)) for i in (1, 2, 3)
    )
    names = rf"^({stacks})({numbers})\.({parts})$"
    module.model.add_adapter(
        LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=names)
    )


@contextmanager
def computing_in_half(model: SentenceTransformer) -> Iterator[None]:
    """Compute with the adapters in bfloat16 if the frozen weights are bfloat16; the adapters are stored in float32.

    This is torch's autocast, and it keeps peft from converting states to float32 for its adapters.
    """
    from peft.helpers import disable_input_dtype_casting

    half = _module(model).model.dtype == torch.bfloat16
    with disable_input_dtype_casting(model, active=half), torch.autocast(model.device.type, torch.bfloat16, half):
        yield


@torch.no_grad()
def _go_on_from(folder: Path, module: EchoModule, *, keeps_map: bool) -> None:
    """Load the weights of trained adapters into new ones. Layers that the trained ones lack start anew."""
    path = folder / presets.ADAPTER_WEIGHTS
    if not path.is_file():
        raise ConfigError(
            f"lora: start={str(folder)!r} has no {presets.ADAPTER_WEIGHTS}; give a trained adapter's folder"
        )
    saved: dict[str, Any] = load_file(path)
    # In a saved file the name of a parameter lacks the adapter's name and starts with peft's prefix.
    ours = {
        "base_model.model." + name.replace(".default.", "."): parameter
        for name, parameter in module.model.named_parameters()
        if "lora_" in name
    }
    if not saved or any(name not in ours or ours[name].shape != value.shape for name, value in saved.items()):
        raise ConfigError(
            f"lora: the adapter in start={str(folder)!r} has other layers, modules or another rank than this recipe; "
            "set rank and modules as they were when it was trained, first_layer at most and the config's exit_layer at "
            "least as high"
        )
    if keeps_map and len(saved) < len(ours):
        raise ConfigError(
            f"whiten='start' keeps the map of {str(folder)!r}, whose adapter has fewer layers than this recipe trains; "
            "set first_layer and exit_layer as they were, or give whiten a power from 0 to 1, such as 0.4"
        )
    for name, value in saved.items():
        ours[name].copy_(value)


def _module(model: SentenceTransformer) -> EchoModule:
    module: Any = model[0]
    echo: EchoModule = module
    return echo


def trained(model: SentenceTransformer) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name: adapters, and the head if there is one, fitted or not."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def has_head(model: SentenceTransformer) -> bool:
    """Whether the model has a linear head after the pooling."""
    return isinstance(model[2], Dense)


def head(model: SentenceTransformer) -> Dense:
    """The linear head after the pooling.

    Raises:
        TypeError: the model has none.
    """
    part = model[2]
    if not isinstance(part, Dense):
        raise TypeError(f"behind the pooling stands a {type(part).__name__}, not a Dense")
    return part


@torch.no_grad()
def fit_head(
    model: SentenceTransformer, texts: list[str], targets: NDArray[np.float32], ridge: float = 0.1
) -> NDArray[np.float32]:
    """Set the head to the ridge regression of ``targets`` on the untrained model's vectors of ``texts``.

    If the config has no transforms yet, it gets a ``Standardize`` fitted on these texts, so that all dimensions learn
    equally fast.

    Args:
        model: a model with a head.
        texts: a few thousand texts; fewer than the model has dimensions are too few.
        targets: the teacher's unit vectors, ``[n, dimension]``.
        ridge: weight of the penalty for each text.

    Returns:
        The head's inputs for these texts, ``[n, hidden]``.
    """
    dense, module = head(model), _module(model)
    vectors = _pooled(model, texts)
    if not module.echo_config.transforms:
        standardize = Standardize.fit(vectors)
        module.change(transforms=(standardize,))
        vectors = standardize(vectors)
    inputs = np.concatenate([vectors, np.ones((len(vectors), 1))], axis=1).astype(np.float64)
    penalty = ridge * len(inputs) * np.eye(inputs.shape[1])
    penalty[-1, -1] = 0  # the bias is free
    solved = np.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ targets)
    dense.linear.weight.copy_(torch.from_numpy(solved[:-1].T))
    dense.linear.bias.copy_(torch.from_numpy(solved[-1]))
    return vectors


def behind_pooling(
    model: SentenceTransformer, recipe: Recipe, states: NDArray[np.float32], targets: NDArray[np.float32]
) -> Project:
    """The map from pooled states to the vectors of the result.

    By default it whitens the states and is trained to rank as the teacher does. With ``whiten="start"`` it is the map
    of the adapter in ``lora.start``.

    Args:
        model: the model in training.
        recipe: with ``dimension`` and ``whiten``.
        states: what the pooling gives now, ``[n, hidden]``.
        targets: the teacher's vectors, ``[n, dimension]``.

    Raises:
        ConfigError: the recipe has no ``dimension`` or no ``whiten``, or the adapter's map does not fit.
    """
    if recipe.dimension is None or recipe.whiten is None:
        raise ConfigError("a map behind the pooling needs a dimension and a power to whiten with")
    if recipe.whiten != "start":
        whitened = Project.whiten(states, power=recipe.whiten)
        return ranked(whitened, states, targets, recipe.lengths, recipe.ranking_steps, recipe.seed)
    kept = _map_of(Path(str(recipe.lora.start)).expanduser(), recipe.dimension)
    return _undone(_module(model).echo_config.transforms, kept)


def _map_of(folder: Path, dimension: int) -> Project:
    config = EchoConfig.load(folder)
    match config.transforms:
        case (Project() as found,) if found.arrays["weight"].shape[1] == dimension:
            return found
    raise ConfigError(
        f"whiten='start': behind the adapter in {str(folder)!r} stands no map to {dimension} dimensions; give whiten a "
        "power from 0 to 1, such as 0.4"
    )


def folded(
    model: SentenceTransformer, recipe: Recipe, texts: list[str], targets: NDArray[np.float32]
) -> SentenceTransformer:
    """The trained model in the form that is saved: the map after the pooling becomes a transform of its config.

    Adapters get the dtype of the weights that they will be merged into; merging would round them to it anyway.

    Args:
        model: the trained model.
        recipe: says what takes the place of the head, and how long texts may be from now on.
        texts: the texts to fit the map on.
        targets: the teacher's vectors for them.
    """
    module = _module(model)
    for name, parameter in trained(model).items():
        if "lora_" in name:
            parameter.data = parameter.data.to(module.model.dtype)
    transforms = module.echo_config.transforms
    if has_head(model) and recipe.dimension is not None and recipe.whiten is not None:
        module.change(transforms=())
        states = np.empty((0, 0), np.float32) if recipe.whiten == "start" else _pooled(model, texts)
        transforms = (behind_pooling(model, recipe, states, targets),)
    elif has_head(model):
        linear = head(model).linear
        weight, bias = linear.weight.detach().float().cpu().numpy().T, linear.bias.detach().float().cpu().numpy()
        transforms = _joined((*transforms, Project(weight, bias)))
    wanted = recipe.echo_config
    config = module.echo_config.replace(
        transforms=transforms,
        max_length=wanted.max_length,
        lexical=wanted.lexical,
        trained_dimensions=_made_for(recipe, transforms),
    )
    module = EchoModule(module.model, module.tokenizer, config, module.merged_adapter)
    pooling = pooling_module(config.pooling, module.get_embedding_dimension())
    return SentenceTransformer(
        modules=[module, pooling, Normalize()], device=str(model.device), similarity_fn_name="cosine"
    )


def _made_for(recipe: Recipe, transforms: tuple[Transform, ...]) -> tuple[int, ...]:
    """The lengths that vectors were trained for; ``()`` if nothing is known."""
    if recipe.matryoshka:
        return tuple(recipe.matryoshka)
    ranks = recipe.dimension is not None and isinstance(recipe.whiten, int | float) and recipe.ranking_steps > 0
    if ranks and recipe.echo_config.lexical is None:
        return recipe.lengths
    return recipe.echo_config.trained_dimensions if transforms == recipe.echo_config.transforms else ()


def _pooled(model: SentenceTransformer, texts: list[str]) -> NDArray[np.float32]:
    """The pooled vectors of texts, before any head: ``[n, hidden]``."""
    pooled = SentenceTransformer(modules=[model[0], model[1]], device=str(model.device))
    return np.asarray(pooled.encode(texts, batch_size=256, show_progress_bar=False), np.float32)


def _joined(transforms: tuple[Transform, ...]) -> tuple[Transform, ...]:
    """A ``Standardize`` and the ``Project`` after it as one ``Project``; other transforms unchanged."""
    match transforms:
        case (Standardize(arrays=scales), Project(arrays=map_)):
            weight = map_["weight"] / scales["std"][:, None]
            return (Project(weight, map_["bias"] - scales["mean"] @ weight),)
    return transforms


def _undone(transforms: tuple[Transform, ...], project: Project) -> Project:
    """Change ``project``, which maps pooled states, so that it maps states that went through ``transforms`` before."""
    match transforms:
        case ():
            return project
        case (Standardize(arrays=scales),):
            weight = project.arrays["weight"]
            return Project(weight * scales["std"][:, None], project.arrays["bias"] + scales["mean"] @ weight)
    names = ", ".join(transform.name for transform in transforms)
    raise ConfigError(
        f"whiten='start' maps pooled states, which this config changes first ({names}); give config its fields, such "
        "as template and start_layer, instead of a preset"
    )


def name_base(folder: Path, model: str | None) -> None:
    """Write the base model's name into an adapter's config, instead of a cache folder of this machine."""
    path = folder / "adapter_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["base_model_name_or_path"] = builtin.NAME if model is None else model
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    manifest.write(folder, manifest.config_in(folder / manifest.FILE))  # it lists this file, too


def store(model: SentenceTransformer, folder: Path) -> None:
    """Write the trained parameters without rounding, so that a checkpoint resumes at the same weights."""
    save_file({name: value.detach().cpu().contiguous() for name, value in trained(model).items()}, folder / _FILE)


def restore(model: SentenceTransformer, folder: Path) -> None:
    """Load the parameters that ``store`` wrote.

    Raises:
        ConfigError: they were written by another recipe.
    """
    saved: dict[str, Any] = load_file(folder / _FILE)
    parameters = trained(model)
    shapes = {name: tuple(value.shape) for name, value in parameters.items()}
    if shapes != {name: tuple(value.shape) for name, value in saved.items()}:
        raise ConfigError(f"{folder} was written by a recipe with other adapters; train into another output folder")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])
