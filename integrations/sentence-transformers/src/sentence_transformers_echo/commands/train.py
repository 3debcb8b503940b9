"""The command ``train``: fine-tune a model as a recipe says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from echo_embeddings.cli import options, output

from . import importing_training

__all__ = ["train"]


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML file; see docs/guides/fine-tune.md.")],
    *,
    target: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder of the result, instead of the recipe's.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model to train, such as a folder of tune, instead of the recipe's.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Folder that relative paths start from.")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    steps: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=1)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    json: options.Json = False,
) -> None:
    """Fine-tune a model on your own pairs, triples or texts."""
    with importing_training("training"):
        from sentence_transformers_echo.training import Recipe
        from sentence_transformers_echo.training import train as run
    loaded = Recipe.load(recipe, model=model, output=target, seed=seed, steps=steps)
    if data is not None:
        loaded = loaded.replace(data_folder=data)
    options.quiet()
    done = run(loaded, resume=resume, show_progress=not json)
    if json:
        output.print_json({"folder": str(done.folder), "before": done.before, "after": done.after, "rows": done.rows})
        return
    for name, score in done.after.items():
        output.out.print(f"{name:<28}{done.before[name]:6.1f} -> {score:5.1f}", markup=False)
    output.out.print(f"{done.folder} is trained: EchoEncoder({str(done.folder)!r})", markup=False, soft_wrap=True)
