"""Chunks that can only be told apart by what stands around them: a set made by a grammar, and what finds them.

    python -m research.long_documents.references --output vectors.npz [--model MODEL] [--configs default,late-echo]

Question: does a chunk that has seen its document (``encode_chunks``) find the answer where the sentence itself does not
say what it is about, and what else does?

The set: 60 short documents on 96 subjects (buildings, people, boats, machines, villages), 288 questions. The sentence
that answers calls its subject "it", "she" or "the ship". In 36 documents there is one subject; in 12 there are two, one
after the other; in 12 there are three, each under a heading with its name. Each answer stands word for word in the text
on two other subjects, and sentences that answer the same question of yet others are there too: "When was the lighthouse
of Orvik built?" must find the right one of three chunks "It was built in 1911.", and rank it before all other chunks of
all documents. A chunk is a sentence; the heading belongs to the first one below it.

Ways: chunks alone; chunks with what an application can put before them (the headings above, or the first sentence of
the document); late chunks; and mixtures of these vectors. Scores are for the right chunk among all chunks, times 100:
equal scores count as any order, so that a way which cannot tell copies apart gets a third of the first places. "Among
copies" is the share of questions whose right chunk is before its two copies. The spread is the standard deviation of
the mean over documents (bootstrap). Vectors are kept in the output: started again, it goes on with what is missing.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from echo_embeddings import EchoEncoder
from echo_embeddings.types import Vectors
from echo_embeddings.vectors.normalize import unit

from .common import ENDS, STARTS, Kept, Numbers, alone, margin, parts, spread, success, words

__all__ = (
    "Document",
    "Question",
    "documents",
    "main",
)

SEED = 27
#: Subjects whose texts hold the same answers, word for word.
COPIES = 3
#: Documents with one subject, with two, and with a heading for each of three.
SINGLE, PAIRS, HEADINGS = 36, 12, 12
FACTS = 3

_Value = Callable[[random.Random], str]


@dataclass(frozen=True)
class _Attribute:
    """What can be asked of a subject: statements with {it} and {x}, questions with {name}, and what {x} may be."""

    statements: tuple[str, ...]
    questions: tuple[str, ...]
    value: _Value
    note: str  #: the statement as it stands in a list under a heading


@dataclass(frozen=True)
class _Kind:
    nouns: tuple[str, ...]
    #: How a subject is called: {noun}, {own} (a name of its own).
    name: str
    refers: tuple[str, ...]
    intros: tuple[str, ...]
    fillers: tuple[str, ...]
    attributes: tuple[_Attribute, ...]


@dataclass
class _Fact:
    sentence: str
    attribute: _Attribute


@dataclass
class Document:
    """A document: its chunks, and what stands before each.

    Attributes:
        sort: "one subject", "two subjects" or "headings".
        text: all of it.
        spans: first and last-plus-one character of each chunk.
        heads: for each chunk what an application could put before it; empty for a chunk that has it already.
    """

    sort: str
    text: str = ""
    spans: list[tuple[int, int]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)

    def chunks(self) -> list[str]:
        """The text of each chunk."""
        return [self.text[start:end] for start, end in self.spans]

    def add(self, chunk: str, between: str, head: str) -> None:
        """Put a chunk behind the others."""
        self.text += between if self.text else ""
        self.spans.append((len(self.text), len(self.text) + len(chunk)))
        self.heads.append(head)
        self.text += chunk


@dataclass(frozen=True)
class Question:
    """A question with the place of its answer.

    Attributes:
        text: the question.
        document: the number of its document.
        chunk: the number of the chunk in it that answers.
    """

    text: str
    document: int
    chunk: int


def _one_of(*values: str) -> _Value:
    return lambda rng: rng.choice(values)


def _number(low: int, high: int, step: int = 1) -> _Value:
    return lambda rng: str(rng.randrange(low, high, step))


def _months(rng: random.Random) -> str:
    first = rng.randrange(1, 6)
    return f"{_MONTHS[first]} to {_MONTHS[rng.randrange(first + 2, 12)]}"


def _person(rng: random.Random) -> str:
    return f"{rng.choice(_WOMEN + _MEN)} {rng.choice(_FAMILIES)}"


_MONTHS = words("January February March April May June July August September October November December")
_WOMEN = words("Ada Berit Clara Dagny Elin Frida Greta Hanne Ines Jorid Kaia Lena Marta Nora Olga Petra")
_MEN = words("Arne Bjarne Carl Didrik Emil Finn Gustav Henrik Ivar Jonas Karl Lars Magnus Nils Oskar Per")
_FAMILIES = words("Aldal Brekke Corvin Dahlby Eskland Fosmark Grenholt Hovden Isberg Jensrud Kvale Lorentz Moberg")
_SIDES = ("north", "south", "east", "west")

BUILDING = _Kind(
    ("lighthouse", "mill", "chapel", "library", "observatory", "bathhouse", "tower", "school"),
    "the {noun} of {own}",
    ("It", "The building", "The old landmark"),
    ("{Name} stands on the {side} shore of the bay.", "North of the road one sees {name}.", "A path leads to {name}."),
    (
        "From afar {it} looks larger than one expects.",
        "Painters have often chosen {it} for a picture.",
        "{It} has seen many storms.",
    ),
    (
        _Attribute(
            ("{It} was built in {x}.", "{It} dates from {x}."),
            ("When was {name} built?", "How old is {name}?"),
            _number(1680, 1960),
            "Built in {x}.",
        ),
        _Attribute(
            ("{It} was designed by {x}.", "{x} drew the plans for {it}."),
            ("Who designed {name}?", "Who was the architect of {name}?"),
            _person,
            "Architect: {x}.",
        ),
        _Attribute(
            ("{It} is {x} metres high.", "{It} rises {x} metres above the ground."),
            ("How high is {name}?", "How many metres tall is {name}?"),
            _number(9, 70),
            "Height: {x} metres.",
        ),
        _Attribute(
            ("{It} is made of {x}.", "The walls are of {x}."),
            ("What is {name} made of?", "Which material was used for {name}?"),
            _one_of("granite", "red brick", "oak", "limestone", "slate", "concrete", "pine"),
            "Material: {x}.",
        ),
        _Attribute(
            ("Visitors are let in from {x}.", "{It} is open from {x}."),
            ("When can one visit {name}?", "In which months is {name} open?"),
            _months,
            "Open from {x}.",
        ),
    ),
)
PERSON = _Kind(
    ("painter", "engineer", "composer", "botanist", "sculptor", "surgeon"),
    "{own}",
    (),  # by the sex, in `_refers`
    (
        "{Name} was a {noun} of some fame.",
        "Few people today have heard of the {noun} {name}.",
        "Letters of the {noun} {name} were found last year.",
    ),
    ("{Its} house is still shown to guests.", "Friends praised {its} patience.", "In old age {it} gave no interviews."),
    (
        _Attribute(
            ("{It} was born in {x}.", "{Its} year of birth is {x}."),
            ("When was {name} born?", "In which year did {name} come into the world?"),
            _number(1790, 1950),
            "Born in {x}.",
        ),
        _Attribute(
            ("{It} studied in {x}.", "{It} went to university in {x}."),
            ("Where did {name} study?", "In which city was {name} a student?"),
            _one_of("Vienna", "Bologna", "Leiden", "Prague", "Uppsala", "Dublin", "Lisbon"),
            "Studied in {x}.",
        ),
        _Attribute(
            ("{It} played the {x} every evening.", "{Its} instrument was the {x}."),
            ("Which instrument did {name} play?", "What did {name} play in the evenings?"),
            _one_of("cello", "flute", "harp", "oboe", "violin", "organ", "lute"),
            "Instrument: the {x}.",
        ),
        _Attribute(
            ("{It} married {x}.", "{x} became the love of {its} life."),
            ("Who was {name} married to?", "Whom did {name} marry?"),
            _person,
            "Married to {x}.",
        ),
        _Attribute(
            ("{It} had {x} children.", "{x} children were born to {it2}."),
            ("How many children did {name} have?", "How large was the family of {name}?"),
            _one_of("two", "three", "four", "five", "six", "seven"),
            "{x} children.",
        ),
    ),
)
BOAT = _Kind(
    ("ferry", "schooner", "tug", "trawler", "steamer", "yacht"),
    "the {noun} {own}",
    ("It", "The ship", "The vessel"),
    (
        "{Name} can be seen in the harbour on most days.",
        "Old postcards often show {name}.",
        "This page is about {name}.",
    ),
    (
        "Children wave when {it} passes.",
        "{It} was painted again last spring.",
        "On calm days one hears {it} before one sees it.",
    ),
    (
        _Attribute(
            ("{It} was launched in {x}.", "{It} first touched water in {x}."),
            ("When was {name} launched?", "In what year was {name} put to sea?"),
            _number(1860, 2015),
            "Launched in {x}.",
        ),
        _Attribute(
            ("{It} carries {x} passengers.", "There is room for {x} people on board."),
            ("How many passengers can {name} take?", "What is the capacity of {name}?"),
            _number(12, 900, 4),
            "{x} passengers.",
        ),
        _Attribute(
            ("{x} is the captain.", "{It} sails under captain {x}."),
            ("Who is the captain of {name}?", "Who commands {name}?"),
            _person,
            "Captain: {x}.",
        ),
        _Attribute(
            ("{It} makes {x} knots.", "The top speed is {x} knots."),
            ("How fast is {name}?", "What speed does {name} reach?"),
            _number(6, 34),
            "Speed: {x} knots.",
        ),
        _Attribute(
            ("{It} runs on {x}.", "The engine burns {x}."),
            ("What fuel does {name} use?", "What does {name} run on?"),
            _one_of("coal", "diesel", "hydrogen", "natural gas", "batteries", "heavy oil"),
            "Fuel: {x}.",
        ),
    ),
)
MACHINE = _Kind(
    ("pump", "printer", "kettle", "drill", "camera", "heater", "scale"),
    "the {own} {noun}",
    ("It", "The device", "The machine"),
    ("{Name} is sold all over the country.", "We have tried {name} for a month.", "Many workshops own {name}."),
    ("Our testers liked {it} well enough.", "{It} comes in a plain box.", "No fault was found with {it}."),
    (
        _Attribute(
            ("{It} weighs {x} kilograms.", "{x} kilograms is what {it} weighs."),
            ("How heavy is {name}?", "What is the weight of {name}?"),
            _number(2, 40),
            "Weight: {x} kilograms.",
        ),
        _Attribute(
            ("{It} costs {x} crowns.", "The shops ask {x} crowns for {it}."),
            ("What is the price of {name}?", "How much does one pay for {name}?"),
            _number(150, 4000, 25),
            "Price: {x} crowns.",
        ),
        _Attribute(
            ("{It} comes with a guarantee of {x} years.", "Repairs are free for {x} years."),
            ("How long is the guarantee of {name}?", "For how many years is {name} under warranty?"),
            _one_of("two", "three", "four", "five", "eight", "ten"),
            "Guarantee: {x} years.",
        ),
        _Attribute(
            ("{It} is manufactured in {x}.", "The factory is in {x}."),
            ("Where is {name} made?", "In which country is {name} produced?"),
            _one_of("Portugal", "Finland", "Chile", "Slovenia", "Vietnam", "Canada", "Kenya"),
            "Made in {x}.",
        ),
        _Attribute(
            ("{It} draws {x} watts.", "The motor needs {x} watts."),
            ("How much power does {name} need?", "What is the power consumption of {name}?"),
            _number(40, 2400, 20),
            "Power: {x} watts.",
        ),
    ),
)
VILLAGE = _Kind(
    ("village", "hamlet", "parish"),
    "the {noun} of {own}",
    ("It", "The place", "The settlement"),
    ("{Name} lies between two hills.", "The bus stops in {name} once a day.", "Not many maps show {name}."),
    ("In winter {it} is very quiet.", "Young people move away from {it}.", "{It} has one shop and no hotel."),
    (
        _Attribute(
            ("{It} has {x} inhabitants.", "{x} people live there."),
            ("How many people live in {name}?", "What is the population of {name}?"),
            _number(60, 3000, 7),
            "Inhabitants: {x}.",
        ),
        _Attribute(
            ("{It} is known for its {x}.", "Everybody praises the {x} from there."),
            ("What is {name} famous for?", "What is the speciality of {name}?"),
            _one_of("cheese", "honey", "plums", "smoked eel", "lace", "glass", "cider"),
            "Known for {x}.",
        ),
        _Attribute(
            ("{x} has been mayor for years.", "{It} elected {x} as mayor."),
            ("Who is the mayor of {name}?", "Who leads the council of {name}?"),
            _person,
            "Mayor: {x}.",
        ),
        _Attribute(
            ("The market is held on {x}.", "Every {x} there is a market."),
            ("When is the market of {name}?", "On which day does {name} hold its market?"),
            _one_of("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
            "Market on {x}.",
        ),
        _Attribute(
            ("{It} was founded in {x}.", "The first houses were put up in {x}."),
            ("When was {name} founded?", "How long ago was {name} settled?"),
            _number(1100, 1850),
            "Founded in {x}.",
        ),
    ),
)
KINDS = (BUILDING, PERSON, BOAT, MACHINE, VILLAGE)


@dataclass(frozen=True)
class _Subject:
    kind: _Kind
    noun: str
    name: str
    refers: tuple[str, str, str]  #: It, its, it as an object
    facts: tuple[_Fact, ...]


def _filled(template: str, refers: tuple[str, str, str], **more: str) -> str:
    it, its, it2 = refers
    made = template.format(It=it, it=it[0].lower() + it[1:], Its=its.capitalize(), its=its, it2=it2, **more)
    return made[0].upper() + made[1:]


def _refers(kind: _Kind, noun: str, *, woman: bool, rng: random.Random) -> tuple[str, str, str]:
    if kind is not PERSON:
        it = rng.choice(kind.refers)
        return it, "its", it.lower()
    it = rng.choice(("She" if woman else "He", f"The {noun}"))
    return it, "her" if woman else "his", "her" if woman else "him"


def _group(kind: _Kind, own: Iterator[str], *, notes: bool, rng: random.Random) -> list[_Subject]:
    """Subjects of which the same is said, word for word."""
    woman, noun = rng.random() < 0.5, rng.choice(kind.nouns)
    facts = []
    for attribute in rng.sample(kind.attributes, FACTS):
        value = attribute.value(rng)
        template = attribute.note if notes else rng.choice(attribute.statements)
        refers = _refers(kind, noun, woman=woman, rng=rng)
        facts.append(_Fact(_filled(template, refers, x=value), attribute))
    subjects = []
    for _ in range(COPIES):
        if kind is PERSON:
            name = f"{rng.choice(_WOMEN if woman else _MEN)} {next(own)}er"
        else:
            noun = rng.choice(kind.nouns)
            name = kind.name.format(noun=noun, own=next(own))
        refers = _refers(kind, noun, woman=woman, rng=rng)
        subjects.append(_Subject(kind, noun, name, refers, tuple(facts)))
    return subjects


def _told(subject: _Subject, fillers: int, rng: random.Random) -> list[tuple[str, _Fact | None]]:
    """The sentences on a subject: one that names it, then its facts and some others in any order."""
    name = subject.name
    intro = rng.choice(subject.kind.intros)
    first = intro.format(Name=name[0].upper() + name[1:], name=name, noun=subject.noun, side=rng.choice(_SIDES))
    others = [_filled(one, subject.refers) for one in rng.sample(subject.kind.fillers, fillers)]
    rest = [*((fact.sentence, fact) for fact in subject.facts), *((one, None) for one in others)]
    rng.shuffle(rest)
    return [(first, None), *rest]


def _dealt(groups: list[list[_Subject]], size: int, rng: random.Random) -> list[list[_Subject]]:
    """Subjects by document, so many in each; no two of one document have the same answers."""
    subjects = [subject for group in groups for subject in group]
    while True:
        rng.shuffle(subjects)
        dealt = [subjects[start : start + size] for start in range(0, len(subjects), size)]
        if all(len({id(one.facts[0]) for one in some}) == size for some in dealt):
            return dealt


def documents() -> tuple[list[Document], list[Question]]:
    """The set: always the same."""
    rng = random.Random(SEED)  # noqa: S311 - no secret
    places = [start + end for start in STARTS for end in ENDS]
    rng.shuffle(places)
    own = iter(places)
    numbers = (("one subject", SINGLE, 1), ("two subjects", PAIRS, 2), ("headings", HEADINGS, 3))
    made: list[Document] = []
    questions: list[Question] = []
    for sort, count, size in numbers:
        groups = [
            _group(KINDS[i % len(KINDS)], own, notes=sort == "headings" and i % 2 == 0, rng=rng)
            for i in range(count * size // COPIES)
        ]
        for subjects in _dealt(groups, size, rng):
            document = _written(sort, subjects, len(made), questions, rng)
            made.append(document)
    return made, questions


def _written(
    sort: str, subjects: list[_Subject], number: int, questions: list[Question], rng: random.Random
) -> Document:
    document = Document(sort)
    lead = ""
    for subject in subjects:
        for place, (sentence, fact) in enumerate(_told(subject, 2 if sort == "one subject" else 1, rng)):
            if place == 0 and sort == "headings":
                lead = f"## {subject.name[0].upper()}{subject.name[1:]}"
                document.add(f"{lead}\n\n{_unnamed(sentence, subject)}", "\n\n", "")
            else:
                document.add(sentence, " ", lead)
                lead = lead or sentence
            if fact is not None:
                text = rng.choice(fact.attribute.questions).format(name=subject.name)
                questions.append(Question(text, number, len(document.spans) - 1))
    return document


def _unnamed(sentence: str, subject: _Subject) -> str:
    """A first sentence under a heading: the name stands above, and not in it."""
    it = subject.refers[0]
    made = re.sub(rf"(the {subject.noun} )?{re.escape(subject.name)}", it, sentence, flags=re.IGNORECASE)
    made = made if made.startswith(it) else made.replace(it, it[0].lower() + it[1:])
    return made.replace(" of she", " of her").replace(" of he ", " of him ")


#: What ways are called in the table.
NAMES = {"titled": "with headings"}


# --- what finds them --------------------------------------------------------------------------------------------------


def windows(spans: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Chunks of so many sentences, side by side."""
    return [(spans[i][0], spans[min(i + size, len(spans)) - 1][1]) for i in range(0, len(spans), size)]


def embedded(
    keep: Kept,
    encoder: EchoEncoder,
    made: list[Document],
    questions: list[Question],
    size: int,
    name: str,
    *,
    quick: bool,
) -> dict[str, Vectors]:
    """The vectors of questions, chunks (one row a chunk of all documents) and documents; quick: none with headings."""
    spans = [windows(document.spans, size) for document in made]
    plain = [document.text[start:end] for document, own in zip(made, spans, strict=True) for start, end in own]
    heads = [document.heads[i] for document in made for i in range(0, len(document.heads), size)]
    titled = [f"{head} {chunk}".strip() for head, chunk in zip(heads, plain, strict=True)]
    texts = [document.text for document in made]

    def late() -> Vectors:
        both = [[*own, (0, len(text))] for own, text in zip(spans, texts, strict=True)]
        found = encoder.encode_chunks(texts, both)
        return np.concatenate([np.concatenate([one[:-1] for one in found]), np.stack([one[-1] for one in found])])

    questions_of = keep(f"{name} queries", lambda: encoder.encode_queries([one.text for one in questions]))
    rows = keep(f"{name} {size} late", late)
    which = np.repeat(np.arange(len(made)), [len(own) for own in spans])
    vectors = {
        "queries": questions_of,
        "late": rows[: len(plain)],
        "documents": rows[len(plain) :][which],
        "alone": keep(f"{name} {size} alone", lambda: alone(encoder, plain)),
    }
    if not quick:
        vectors["titled"] = keep(f"{name} {size} titled", lambda: alone(encoder, titled))
    return vectors


def scores(encoder: EchoEncoder, vectors: Mapping[str, Vectors]) -> dict[str, Vectors]:
    """For each way the scores ``[questions, chunks]``."""
    query, lexical = vectors["queries"], encoder.config.lexical
    alone_, late, whole = (vectors[name] for name in ("alone", "late", "documents"))
    found = {
        "alone": query @ alone_.T,
        "late": query @ late.T,
        "alone + 0.5 document": query @ unit(alone_ + 0.5 * whole).T,
        "alone + document": query @ unit(alone_ + whole).T,
        "late + 0.5 document": query @ unit(late + 0.5 * whole).T,
        "late + document": query @ unit(late + whole).T,
        "late + alone": query @ unit(late + alone_).T,
    }
    if "titled" in vectors:
        found["with headings"] = query @ vectors["titled"].T
        found["late + with headings"] = query @ unit(late + vectors["titled"]).T
    if lexical is not None:
        of = {name: parts(encoder, rows) for name, rows in vectors.items()}
        for name in [name for name in ("alone", "late", "titled") if name in of]:
            found[f"{NAMES.get(name, name)}, states only"] = of["queries"][0] @ of[name][0].T
        said = {name: rows for name, (_, rows) in of.items() if rows is not None}
        weight = lexical.weight("document") * lexical.weight("query")
        for name in [name for name in ("alone", "late", "titled") if name in of]:
            beside = weight * said["queries"] @ said["documents"].T
            found[f"{NAMES.get(name, name)}, words of the document"] = of["queries"][0] @ of[name][0].T + beside
        beside = weight * said["queries"] @ unit(said["late"] + said["documents"]).T
        found["late, words of the chunk and of the document"] = of["queries"][0] @ of["late"][0].T + beside
    return found


def among_copies(table: Vectors, right: list[int], chunks: list[str]) -> Numbers:
    """Whether each right chunk is before those with the same text; equal scores count as any order."""
    rows: dict[str, list[int]] = {}
    for row, chunk in enumerate(chunks):
        rows.setdefault(chunk, []).append(row)
    first = []
    for line, own in zip(table, right, strict=True):
        few = rows[chunks[own]]
        first.append(success(line[None, few], [few.index(own)])["accuracy@1"][0])
    return np.array(first)


def report(ways: Mapping[str, Vectors], made: list[Document], questions: list[Question], size: int) -> None:
    """Print the table of one config."""
    spans = [windows(document.spans, size) for document in made]
    chunks = [document.text[start:end] for document, own in zip(made, spans, strict=True) for start, end in own]
    first = np.cumsum([0, *map(len, spans)])
    right = [int(first[one.document]) + one.chunk // size for one in questions]
    groups = [one.document for one in questions]
    sorts = np.array([made[number].sort for number in groups])
    base = success(ways["alone"], right)["nDCG@10"]
    columns = ["one subject", "two subjects", "headings"]
    print(
        "| way | accuracy@1 | nDCG@10 | against alone | MRR | among copies |" + "".join(f" {one} |" for one in columns)
    )
    print("| --- |" + " --: |" * (5 + len(columns)))
    for name, table in ways.items():
        found = success(table, right)
        gain = found["nDCG@10"]
        shown = f"{100 * gain.mean():.1f} ± {100 * spread(gain, groups):.1f}"
        copies = among_copies(table, right, chunks)
        by_sort = "".join(f" {100 * gain[sorts == one].mean():.1f} |" for one in columns)
        print(
            f"| {name} | {100 * found['accuracy@1'].mean():.1f} | {shown} | {margin(gain, base, groups)} | "
            f"{100 * found['MRR'].mean():.1f} | {100 * copies.mean():.1f} |{by_sort}"
        )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="a .npz file that keeps the vectors")
    parser.add_argument("--model", help="a hub id, a folder or a .gguf file (default: the built-in model)")
    parser.add_argument("--configs", default="default,late-echo,echo,classical", help="(%(default)s)")
    parser.add_argument("--sentences", type=int, default=1, help="sentences of a chunk (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="without the way that puts headings before chunks")
    parser.add_argument("--show", action="store_true", help="print the set, and embed nothing")
    arguments = parser.parse_args(argv)
    made, questions = documents()
    if arguments.show:
        show(made, questions)
        return
    if arguments.output is None:
        parser.error("give --output, a .npz file that keeps the vectors; or --show, which embeds nothing")
    keep = Kept(arguments.output)
    for config in arguments.configs.split(","):
        encoder = EchoEncoder(arguments.model, None if config == "default" else config)
        name = f"{encoder.model_name} {config}"
        vectors = embedded(keep, encoder, made, questions, arguments.sentences, name, quick=arguments.quick)
        print(f"\n{name}: {len(questions)} questions, {len(vectors['late'])} chunks of {len(made)} documents\n")
        report(scores(encoder, vectors), made, questions, arguments.sentences)


def show(made: list[Document], questions: list[Question]) -> None:
    """Print each document, its questions and their answers."""
    for number, document in enumerate(made):
        print(f"\n--- {number}: {document.sort}\n{document.text}")
        for one in questions:
            if one.document == number:
                print(f"? {one.text} -> {document.chunks()[one.chunk]}")


if __name__ == "__main__":
    main()
