"""The parts of the steps whose result is known beforehand."""

import gzip
import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from echo_embeddings import EchoConfig
from echo_embeddings.config.presets import ADAPTER_CONFIG, ADAPTER_WEIGHTS, PRESETS_FOLDER
from echo_embeddings.vectors.normalize import unit
from research.default_model import everyday
from research.default_model.step_4_passages import LONGEST, beginning, reworded
from research.default_model.step_8_rank_on_gpu import Budget
from research.default_model.student import Student, states_of
from research.default_model.texts import distinct, draw, rows, sentences, texts_in, write
from research.default_model.writer import Prompts, question_in
from tests.conftest import TEXTS, cosines


def test_texts_are_read_as_they_were_written(tmp_path):
    texts = ["one\u2028line", "naïve café", ""]
    write(tmp_path / "texts.jsonl", ({"text": text} for text in texts))
    assert texts_in(tmp_path / "texts.jsonl", tmp_path / "texts.jsonl") == texts + texts
    with gzip.open(tmp_path / "pairs.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps({"anchor": "a", "positive": "b"}) + "\n")
    assert rows(tmp_path, "pairs") == [{"anchor": "a", "positive": "b"}]


def test_draws_depend_on_their_seed_alone():
    items = list(range(20))
    assert draw(items, 5, random.Random(3)) == draw(iter(items), None, random.Random(3))[:5]
    assert sorted(draw(items, None, random.Random(0))) == items
    texts = ["  a text that is long enough ", "a text that is long enough", "short"]
    assert distinct(texts, None, random.Random(0)) == ["a text that is long enough"]


def test_sentences_have_a_length():
    text = "Too short. This sentence is just long enough. This one, on the other hand, is a little longer."
    assert sentences(text) == text.split(". ", 1)[1].replace("enough. ", "enough.|").split("|")
    assert len(sentences(text, longer_than=35)) == 1


def test_everyday_sentences_are_always_the_same():
    made = everyday.sentences(100)
    assert made == everyday.sentences(100)
    assert len(set(made)) == 100


def test_a_passage_ends_with_a_sentence():
    text = "A sentence of the text ends here. " * 30
    assert beginning(text).endswith("ends here.")
    assert LONGEST - 40 < len(beginning(text)) <= LONGEST
    assert len(beginning("word " * 300)) <= LONGEST


def test_views_are_reworded_without_loss():
    views = ["What is a Quay?", "Ships lie there."]
    found = [reworded(list(views), random.Random(seed)) for seed in range(40)]
    assert {len(each) for each in found} == {1, 2}
    assert ["what is a quay", "ships lie there"] in found
    assert ["What is a Quay?. Ships lie there."] in found


@pytest.mark.parametrize(
    ("text", "question"),
    [
        (" Who bought the mill?\nNobody.", "Who bought the mill?"),
        ("Who bought the mill\nand why?", None),
        ("Why?", None),
        (f"{'who ' * 50}?", None),
    ],
)
def test_the_question_in_what_a_model_writes(text, question):
    assert question_in(text) == question


def test_prompts_end_where_the_model_shall_go_on():
    prompts = Prompts.load()
    assert prompts.ask.format("{braces} stay").endswith("Passage: {braces} stay\nQuestion:")
    assert sum(kind.count for kind in prompts.kinds) == 216000


def test_the_learning_rate_rises_and_falls(monkeypatch):
    budget = Budget(seconds=100, peak=1e-3, started=0.0)
    rates = []
    for now in (0, 1, 2, 50, 100):
        monkeypatch.setattr("time.time", lambda now=now: now)
        rates.append(budget.rate())
    assert rates == pytest.approx([0, 0.5e-3, 1e-3, 0.505e-3, 0.005e-3], rel=2e-2, abs=1e-9)


def test_a_student_that_has_not_learned_is_the_model_it_started_from(builtin_folder, tmp_path):
    start, texts = tmp_path / "start", [*TEXTS[:2], *TEXTS[3:5]]
    # The shipped adapter without its words is what step 8 starts from.
    shipped = PRESETS_FOLDER / "default"
    plain = EchoConfig.load(shipped).replace(lexical=None, query_template=None, packaged_adapter=None)
    plain.save(start)
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        (start / name).write_bytes((shipped / name).read_bytes())
    student = Student(start, "cpu")
    contents = student.tokenize(texts)
    student.begin(contents, torch.nn.functional.normalize(torch.randn(len(texts), 8), dim=1))
    states = states_of(start, texts, longest=160)
    with torch.no_grad():
        mapped = student.map(student.standard(student.all_states(contents))).numpy()
    [project] = plain.transforms
    assert cosines(unit(mapped), unit(project(states))).min() > 0.99

    student.save(tmp_path / "made", start)
    [saved] = EchoConfig.load(tmp_path / "made").transforms
    for name, array in project.arrays.items():
        np.testing.assert_allclose(saved.arrays[name], array.astype(np.float32), rtol=1e-3, atol=1e-4)
    before, after = (load_file(folder / ADAPTER_WEIGHTS) for folder in (start, tmp_path / "made"))
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name].float(), after[name].float(), rtol=1e-2) for name in before)
