"""The words beside the echo: how the default's lexical part and the map behind it were made (docs/training.md).

    python scripts/default_words.py TRAIN --old PRESET

TRAIN is as for default_texts.py, and so is what is left out; PRESET is the folder of the default before it had words
(the result of default-3.yaml), whose map is where the new one starts. Two steps, and neither trains the model's layers:

1. Weights of tokens and a projection of their embeddings learn which passage belongs to which text (a title and its
   abstract, a question and its answer, a sentence and its paragraph), in batches of 512: a step is a look-up and two
   products of matrices.
2. One map for pooled states and words together learns to keep, in 512 dimensions and in the first 256 and 128 of them,
   the neighbours that states (behind the map that they had) and words have side by side; and a little of the pairs.

The states of the second step's texts take most of the time, some half an hour on two cores; ``--states`` keeps them.
What is made is written into the package, beside the adapter, which stays as it is.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import everyday
import numpy as np
import torch
from default_passages import draw, request
from default_texts import SENTENCE_END, rows
from safetensors.numpy import load_file, save_file
from torch import Tensor
from torch.nn import functional

from echo_embeddings import EchoConfig, EchoEncoder, Lexical, Project
from echo_embeddings.config import ARRAYS_FILE
from echo_embeddings.packaged import PRESETS_FOLDER
from echo_embeddings.vectors import Vectors, unit
from echo_embeddings.words import Words
from sentence_transformers_echo.training.ranking import divergence, shared_axes

Pair = tuple[str, str]
Ids = list[int]
Sources = dict[str, list[Pair]]

#: How often a batch of each source is drawn for the words, and how many of its pairs the map learns from.
SHARES = {"papers": 6, "summaries": 2, "medicine": 3, "manuals": 1, "books": 4, "abstracts": 4, "news": 3}
AMOUNTS = {
    "papers": 3600,
    "summaries": 1400,
    "medicine": 2600,
    "manuals": 600,
    "books": 2600,
    "abstracts": 1600,
    "news": 1800,
}
TEMPERATURE = 0.05
LENGTHS = (512, 256, 128)
#: What the words weigh beside states of length 1: in the neighbours that shall be kept, and where the map starts.
WANTED, START = 0.5, 0.6
#: And how much more they count in queries: 1.5 to 3 were all better than 1 (docs/log.md).
IN_QUERIES = 2.0


def sources(train: Path) -> Sources:
    """Pairs of a text and the passage that belongs to it."""
    rng = random.Random(0)  # noqa: S311 - no secret

    def pairs(*names: str, least: int = 0) -> list[Pair]:
        found = (row for name in names for row in rows(train, f"pairs/{name}"))
        return [(row["anchor"], tidy(row["positive"])) for row in found if len(row["positive"]) > least]

    papers, news = pairs("papers_title_abstract"), [row["text"] for row in rows(train, "text/nltk_abc")]
    books = [tidy(row["text"]) for row in rows(train, "text/gutenberg_paragraphs") if len(row["text"]) > 250]
    return {
        "papers": papers,
        "summaries": pairs("papers_tldr_abstract"),
        "medicine": pairs("medquad_qa_hardneg"),
        "manuals": pairs("cppdocs_heading_section", "cppdocs_title_text", least=200),
        "books": parts(books, rng),
        "abstracts": parts((abstract for _, abstract in papers[::3]), rng),
        "news": parts((tidy(" ".join(news[i : i + 4])) for i in range(0, len(news) - 4, 2)), rng),
    }


def tidy(text: str) -> str:
    return " ".join(text.split())[:900]


def parts(texts: Iterable[str], rng: random.Random) -> list[Pair]:
    """A sentence of each text and the text, half of the time without it."""
    found = []
    for sentences in map(SENTENCE_END.split, texts):
        place = rng.randrange(len(sentences)) if len(sentences) >= 3 else None
        if place is not None and 30 < len(sentences[place]) < 300:
            rest = [*sentences[:place], *sentences[place + 1 :]] if rng.random() < 0.5 else sentences
            found.append((sentences[place], " ".join(rest)))
    return found


def learned_words(pairs: dict[str, list[tuple[Ids, Ids]]], table: Vectors, steps: int = 600) -> Lexical:
    """Weights and projection by contrastive learning, from those of ``Lexical.fit``."""
    start = Lexical.fit((np.array(passage) for own in pairs.values() for _, passage in own), table)
    arrays = {name: torch.tensor(array) for name, array in start.arrays.items()}
    whitened = (torch.from_numpy(table) - arrays["center"]) @ arrays["projection"]
    # Learned as logarithms, so that none becomes negative.
    log_weights = arrays["weights"].clamp(min=1e-9).log().requires_grad_()
    turn = torch.eye(whitened.shape[1]).requires_grad_()
    groups = [{"params": [log_weights], "lr": 2e-2}, {"params": [turn], "lr": 1e-3}]
    rng, names = random.Random(0), [name for name, share in SHARES.items() for _ in range(share)]  # noqa: S311

    def embed(texts: list[Ids]) -> Tensor:
        ids, offsets = flat(texts)
        sums = functional.embedding_bag(ids, whitened, offsets, per_sample_weights=log_weights.exp()[ids], mode="sum")
        return sums @ turn

    def loss() -> Tensor:
        own = pairs[rng.choice(names)]
        drawn = [own[i] for i in dict.fromkeys(rng.randrange(len(own)) for _ in range(512))]
        asked, passages = (embed([pair[side] for pair in drawn]) for side in (0, 1))
        return contrast(asked, passages) + contrast(passages, asked)

    descend(groups, loss, steps)
    return Lexical(log_weights.detach().exp(), arrays["center"], arrays["projection"] @ turn.detach())


def flat(texts: list[Ids]) -> tuple[Tensor, Tensor]:
    """Ids behind one another, and where each text begins."""
    offsets = np.cumsum([0, *(len(ids) for ids in texts[:-1])])
    return torch.tensor([i for ids in texts for i in ids]), torch.from_numpy(offsets)


def contrast(asked: Tensor, passages: Tensor) -> Tensor:
    """Each shall find its own among all of the batch."""
    cosines = functional.normalize(asked, dim=1) @ functional.normalize(passages, dim=1).T
    return functional.cross_entropy(cosines / TEMPERATURE, torch.arange(len(cosines)))


def descend(groups: list[dict[str, object]], loss: Callable[[], Tensor], steps: int) -> None:
    """Adam, its learning rates falling to 0."""
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for step in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            print(f"step {step + 1}: {float(value.detach()):.3f}", flush=True)


@dataclass(frozen=True)
class Seen:
    """The second step's texts: pooled states ``[n, hidden]``, words ``[n, dim]``, and rows that belong together."""

    states: Vectors
    words: Vectors
    pairs: Tensor


def map_texts(found: Sources) -> tuple[list[str], Tensor]:
    """Texts for the map, some titles as requests, some texts in lower case; and which belong together."""
    rng = random.Random(11)  # noqa: S311 - no secret
    chosen: list[Pair] = []
    for name, count in AMOUNTS.items():
        own = [(asked, passage) for asked, passage in found[name] if len(asked) > 8 and len(passage) > 100]
        distinct: dict[str, str] = {}
        for asked, passage in draw(own, len(own), rng):
            distinct.setdefault(shortened(passage), asked)
        for passage, asked in list(distinct.items())[:count]:
            worded = request(asked, rng) if name == "papers" and rng.random() < 0.3 else asked
            chosen.append((worded.lower().rstrip(" ?.") if rng.random() < 0.15 else worded, passage))
    plain = draw(everyday.sentences(40000), 3000, rng)
    texts = list(dict.fromkeys([passage for _, passage in chosen] + [asked for asked, _ in chosen] + plain))
    row = {text: i for i, text in enumerate(texts)}
    return texts, torch.tensor([[row[asked], row[passage]] for asked, passage in chosen])


def shortened(passage: str) -> str:
    return passage if len(passage) <= 460 else passage[:460].rsplit(" ", 1)[0]


def learned_map(seen: Seen, old: Project, steps: int = 100) -> Project:
    """From states with words behind them to the vectors of the default."""
    before = old(seen.states)
    scale = 1 / float(np.linalg.norm(before, axis=1).mean())
    wanted = unit(np.concatenate([unit(before), WANTED * seen.words], axis=1))
    inputs = np.concatenate([scale * before, START * seen.words], axis=1)
    axes = shared_axes(unit(inputs), wanted).astype(np.float32)
    given, likeness = torch.from_numpy(inputs), torch.from_numpy(wanted)
    matrix = torch.from_numpy(axes[:, : max(LENGTHS)].copy()).requires_grad_()
    generator = torch.Generator().manual_seed(0)

    def loss() -> Tensor:
        some = torch.randperm(len(given), generator=generator)[:1024]
        pairs = seen.pairs[torch.randperm(len(seen.pairs), generator=generator)[:1024]]
        near = likeness[some] @ likeness[some].T
        vectors, asked, passages = (given[rows] @ matrix for rows in (some, pairs[:, 0], pairs[:, 1]))
        values = [
            divergence(vectors[:, :n], near, TEMPERATURE) + 0.1 * contrast(asked[:, :n], passages[:, :n])
            for n in LENGTHS
        ]
        return torch.stack(values).sum()

    descend([{"params": [matrix], "lr": 5e-4}], loss, steps)
    learned = matrix.detach().numpy()
    hidden = before.shape[1]
    own = scale * learned[:hidden]
    weight = np.concatenate([old.arrays["weight"] @ own, START * learned[hidden:]])
    return Project(weight, old.arrays["bias"] @ own)


def in_half(folder: Path) -> None:
    """Write the arrays in float16, which loses nothing that counts and halves what is in git."""
    arrays = load_file(folder / ARRAYS_FILE)
    save_file({name: array.astype(np.float16) for name, array in arrays.items()}, folder / ARRAYS_FILE)


def tokenised(pairs: list[Pair], ids: Callable[[list[str]], list[Ids]]) -> list[tuple[Ids, Ids]]:
    """Both sides as ids, without passages too short to be told apart."""
    kept = [pair for pair in pairs if len(pair[0]) > 8 and len(pair[1]) > 60]
    return list(zip(ids([asked for asked, _ in kept]), ids([passage for _, passage in kept]), strict=True))


def states_of(texts: list[str], config: EchoConfig, kept: Path | None) -> Vectors:
    """Pooled states, from the file if it is there."""
    if kept is not None and kept.exists():
        return np.asarray(np.load(kept), np.float32)
    encoder = EchoEncoder(config=config.replace(lexical=None, transforms=(), max_length=128), on_truncate="ignore")
    runtime, template = encoder.runtime, encoder.config.templates[0]
    states = runtime.pool(texts, runtime.contents(texts, template, None), runtime.layout(template, None))
    if kept is not None:
        np.save(kept, states)
    return states


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("--old", type=Path, required=True, help="folder of the preset without words")
    parser.add_argument("--states", type=Path, default=None, help="a .npy file to keep the map's states in")
    arguments = parser.parse_args()
    old = EchoConfig.load(arguments.old)
    (project,) = old.transforms
    encoder = EchoEncoder()
    tokenizer, embeddings = encoder.runtime.tokenizer, encoder.runtime.backbone.model.get_input_embeddings()
    found = sources(arguments.train)

    def ids(texts: list[str]) -> list[Ids]:
        return [content.ids.tolist() for content in tokenizer.contents(texts, spaced=False, limit=200)]

    pairs = {name: tokenised(own, ids) for name, own in found.items()}
    lexical = learned_words(pairs, embeddings.weight.detach().float().numpy())
    texts, together = map_texts(found)
    contents = [content.ids for content in tokenizer.contents(texts, spaced=False, limit=128)]
    words = Words(lexical, embeddings).vectors(contents).numpy()
    states = states_of(texts, EchoConfig.preset("default"), arguments.states)
    made = old.replace(
        query_template=replace(old.templates[0], lexical=IN_QUERIES),
        lexical=lexical,
        transforms=(learned_map(Seen(states, words, together), project),),
    )
    made.save(PRESETS_FOLDER / "default")
    in_half(PRESETS_FOLDER / "default")
    print(f"{len(texts)} texts; written to {PRESETS_FOLDER / 'default'}")


if __name__ == "__main__":
    main()
