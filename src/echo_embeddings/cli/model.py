"""``model``: fetch the built-in model, say what a model is and how it would embed, and what is in the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from echo_embeddings import EchoConfig, EchoEncoder, user_cache
from echo_embeddings.config import presets
from echo_embeddings.errors import InputError
from echo_embeddings.model import builtin, conversion
from echo_embeddings.model.spec import ModelSpec

from . import options, output

__all__ = ["app", "info", "list_", "pull", "remove"]

app = typer.Typer(no_args_is_help=True, help="Fetch the built-in model, describe any, or tidy the cache.")


@app.command()
def pull(
    *,
    gguf: Annotated[Path | None, typer.Option(help="A copy of the GGUF file; without it, it is downloaded.")] = None,
    json: options.Json = False,
) -> None:
    """Fetch and convert the built-in model (93 MB; once); check it, and mend it, if it is here already."""
    options.quiet()
    folder = builtin.pull(gguf)
    if json:
        output.print_json({"model": builtin.NAME, "folder": str(folder)})
    else:
        output.out.print(f"{builtin.NAME} is in {folder}", markup=False, soft_wrap=True)


@app.command()
def info(
    model: Annotated[str | None, typer.Argument(help="Hub id, folder or .gguf file; without it, the built-in.")] = None,
    *,
    json: options.Json = False,
) -> None:
    """Describe a model and the config it embeds with; its weights are not loaded."""
    if model is None and not builtin.is_cached():
        raise InputError("the built-in model is not here yet; fetch it: echo-embeddings model pull")
    options.quiet()
    encoder = EchoEncoder(options.where(model))
    folder = str(builtin.cache_folder()) if model is None else encoder.model_name
    facts = {"model": encoder.model_name, "from": folder} | _facts(folder, encoder.config)
    if json:
        output.print_json(facts)
        return
    for name, value in facts.items():
        shown = value.replace("\n", "\\n") if isinstance(value, str) else value
        output.out.print(f"{name.replace('_', ' '):<16}{shown}", markup=False, soft_wrap=True)


@app.command("list")
def list_(*, json: options.Json = False) -> None:
    """List what is in the cache: the built-in model, and converted GGUF files."""
    found = conversion.list_converted()
    if json:
        output.print_json([vars(one) | {"folder": str(one.folder)} for one in found])
        return
    if not found:
        output.out.print(f"There is no model in {user_cache.folder()}.", markup=False, soft_wrap=True)
    width = max((len(one.name) for one in found), default=0)
    for one in found:
        line = f"{one.name:<{width}}  {one.size / 1e6:>8,.0f} MB  {one.source}"
        output.out.print(line, markup=False, highlight=False, soft_wrap=True)


@app.command()
def remove(names: Annotated[list[str], typer.Argument(help="Names that model list shows.", metavar="NAME...")]) -> None:
    """Remove models from the cache; they are made again when they are used again."""
    for name in names:
        gone = conversion.remove(name)
        output.out.print(
            f"Removed {gone.name}; {gone.size / 1e6:,.0f} MB are free.", markup=False, highlight=False, soft_wrap=True
        )


def _facts(model: str, config: EchoConfig) -> dict[str, Any]:
    from echo_embeddings.model.loading import config_of

    weights = config_of(ModelSpec(model)).get_text_config()
    layers = config.layers(weights.num_hidden_layers)
    document, query = config.templates
    return {
        "adapter": _adapter(config),
        "architecture": weights.model_type,
        "layers": weights.num_hidden_layers,
        "hidden_size": weights.hidden_size,
        "dimension": config.dimension(weights.hidden_size),
        "context": getattr(weights, "max_position_embeddings", None),
        "template": document.text,
        "query_template": query.text,
        "start_layer": layers.start,
        "exit_layer": layers.exit,
        "pooling": config.pooling,
        "lexical": None if config.lexical is None else repr(config.lexical),
        "transforms": [repr(transform) for transform in config.transforms],
        "max_length": config.max_length,
        "fingerprint": config.fingerprint(),
    }


def _adapter(config: EchoConfig) -> str | None:
    """The packaged adapter with the beginning of its digest, which tells versions apart."""
    name = config.packaged_adapter
    return None if name is None else f"{name} (packaged, {presets.digest(name)[:12]})"
