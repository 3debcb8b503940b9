"""The model card of a trained folder: data and their licences, settings, scores. It quotes no training text."""

from __future__ import annotations

from pathlib import Path

from echo_embeddings import __version__
from echo_embeddings.model import builtin

from .recipe import Recipe, Trained

__all__ = ["write_card"]


def write_card(folder: Path, recipe: Recipe, done: Trained) -> None:
    """Write the card as ``README.md`` into ``folder``."""
    (folder / "README.md").write_text(_card(folder.name, recipe, done), encoding="utf-8")


def _card(name: str, recipe: Recipe, done: Trained) -> str:
    base, config = recipe.model or builtin.NAME, recipe.echo_config
    lora = recipe.lora
    lines = [
        "---",
        "library_name: sentence-transformers",
        "tags: [sentence-transformers, echo-embeddings, feature-extraction, sentence-similarity]",
        "---",
        f"# Echo embeddings, fine-tuned from {base}",
        "",
        "```python",
        "from echo_embeddings import EchoEncoder  # from a checkout of it: pip install .",
        "",
        f'encoder = EchoEncoder("{name}")',
        "```",
        "",
        (
            "or `sentence_transformers_echo.load(folder)` for a `SentenceTransformer`. The folder holds adapters; "
            "`EchoEncoder(folder).save_pretrained(other)` writes them merged into all weights."
        ),
        "",
        "## Data",
        "",
        "| data | loss | rows | terms |",
        "|---|---|--:|---|",
        *(f"| {entry.title} | {entry.loss} | {done.rows[entry.title]:,} | {entry.licence} |" for entry in recipe.data),
        "",
        "## Training",
        "",
        (
            f"- Template `{config.templates[0].text!r}`; copy made at layer {config.start_layer}, pooled after "
            f"{config.exit_layer or 'the last'}, {config.pooling} pooling; {recipe.max_length} content tokens."
        ),
        f"- {recipe.steps} steps of {recipe.batch_size} rows of one data set each; temperature {recipe.temperature:g}.",
        f"- Learning rate {recipe.learning_rate:g}, warm-up {recipe.warmup:g}, linear decay; seed {recipe.seed}.",
        f"- LoRA rank {lora.rank}, alpha {lora.alpha:g}, dropout {lora.dropout:g}, layers from {lora.first_layer}.",
    ]
    if recipe.teacher:
        lines.append(f"- Teacher {recipe.teacher}, {recipe.dimension} principal axes.")
    if done.after:
        lines += [
            "",
            "## Scores",
            "",
            "Spearman or nDCG@10, times 100.",
            "",
            "| set | before | after |",
            "|---|--:|--:|",
        ]
        lines += [f"| {name} | {done.before[name]:.1f} | {after:.1f} |" for name, after in done.after.items()]
    lines += ["", f"Made with `echo-embeddings train RECIPE.yaml`, echo-embeddings {__version__}.", ""]
    return "\n".join(lines)
