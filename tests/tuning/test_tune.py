"""tune: from a model and texts to a config, on a tiny random model."""

import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import transformers as tf
from typer.testing import CliRunner

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder, EncoderOptions, tune
from echo_embeddings.cli.app import app
from echo_embeddings.config.config import Layers
from echo_embeddings.data.files import locked
from echo_embeddings.engine.runtime import Runtime
from echo_embeddings.errors import InputError, LeftOutWarning, ModelError
from echo_embeddings.evaluation import open_dataset
from echo_embeddings.tuning.candidates import PASSES, TRANSFORMS, candidates
from echo_embeddings.tuning.page import page
from echo_embeddings.tuning.words import length_of_words, spread_of
from echo_embeddings.vectors.lexical import Lexical
from tests.architectures import small_tokenizer, tiny

WORDS = [
    "the",
    "ferry",
    "leaves",
    "at",
    "dawn",
    "a",
    "short",
    "one",
    "naive",
    "cafe",
    "def",
    "add",
    "return",
    "spaces",
    "around",
    "user",
    "ignore",
    "all",
    "that",
    "island",
]
FLOAT32 = EncoderOptions(dtype="float32", on_truncate="ignore")


def some_texts(count):
    random = np.random.default_rng(0)
    return [" ".join(random.choice(WORDS, size=24)) for _ in range(count)]


TEXTS = some_texts(60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny("llama", max_position_embeddings=1024, tie_word_embeddings=True).save_pretrained(folder)
    small_tokenizer(TEXTS).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tuned(folder):
    return tune(folder, TEXTS, options=FLOAT32, minutes=60)


def test_cost_is_counted_in_classical_passes():
    late, one_word = PASSES[0], PASSES[1]
    layers = Layers(start=18, exit=30, depth=30, final_norm=True)
    assert late.cost(24, layers) == pytest.approx((24 + 6) / 30)
    assert late.cost(30, layers) == pytest.approx((30 + 12) / 30)
    assert one_word.cost(29, Layers(0, 30, 30, final_norm=True)) == pytest.approx(29 / 30)
    kept = [exit_ for exit_, _ in candidates(late, layers, max_cost=1.1)]
    assert kept == list(range(1, 7)), "exits 20 to 25: 19 is below 0.65 of the depth, and 26 costs more"


def test_every_configuration_is_tried(tuned):
    of_passes = [one.candidate for one in tuned.tried if not one.words]
    assert {one.of for one in of_passes} == set(PASSES)
    assert {one.transform for one in of_passes} == set(TRANSFORMS)
    assert max(one.cost for one in of_passes) <= 1.1
    assert len(set(of_passes)) == len(of_passes)
    scores = [one.score for one in tuned.tried if not one.words]
    assert scores == sorted(scores, reverse=True)
    assert tuned.skipped == {}
    assert tuned.names == ("found", "of whole")
    assert tuned.gain is None


def test_the_encoder_has_the_best_config(tuned):
    best, config = tuned.tried[0].candidate, tuned.encoder.config
    assert config.templates[0] == best.of.template
    assert (config.start_layer, config.exit_layer) == (best.start, best.exit)
    assert config.pooling == best.of.pooling
    assert bool(config.transforms) == (best.transform != "none")
    assert tuned.best.candidate == best
    assert tuned.encoder.encode_documents(TEXTS[:2]).shape == (2, tuned.encoder.dimension)


def test_int8_can_be_made_of_the_result(tuned):
    vectors = tuned.encoder.fit_ranges(TEXTS).with_precision("int8").encode_documents(TEXTS[:3])
    assert vectors.dtype == np.int8


def test_the_words_say_half_of_what_the_echo_says(tuned, folder):
    """Beside the best configuration, by how much the cosines between texts differ."""
    plain, with_words = tuned.tried[0], tuned.best
    assert 0 < with_words.words <= 2
    assert [one for one in tuned.tried if one.words] == [with_words]
    lexical = tuned.encoder.config.lexical
    assert lexical.weight("document") == with_words.words
    assert lexical.weight("query") == 2 * with_words.words
    echo = EchoEncoder(
        folder, plain.candidate.config(512).replace(transforms=tuned.encoder.config.transforms), dtype="float32"
    )
    vectors = [echo.encode_documents(TEXTS), with_words.words * lexical.vectors(TEXTS)]
    of_echo, of_words = ((one @ one.T)[np.triu_indices(len(TEXTS), 1)].std() for one in vectors)
    assert of_words / of_echo == pytest.approx(0.5, rel=0.25)  # n-grams and transform were then fitted on fewer texts


def test_with_words_the_score_is_that_of_its_numbers_among_all_without(tuned):
    plain, best = [one for one in tuned.tried if not one.words], tuned.best
    ranks = [np.mean([other.numbers[i] < best.numbers[i] for other in plain]) for i in range(2)]
    assert best.words
    assert best.score == pytest.approx(np.mean(ranks))


@pytest.mark.parametrize(
    ("share", "of_echo", "of_words", "length"),
    [(0.5, 0.2, 0.1, 1.0), (0.0, 0.2, 0.1, 0.0), (0.5, 0.02, 0.16, 0.25), (2.0, 0.9, 0.01, 2.0), (0.5, 0.2, 0.0, 0.0)],
)
def test_the_length_of_words(share, of_echo, of_words, length):
    assert length_of_words(share, of_echo, of_words) == length


def test_the_spread_of_cosines():
    assert spread_of(np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32)) == pytest.approx(np.std([0, 0.6, 0.8]))
    assert spread_of(np.ones((1, 3), np.float32)) == 0.0


def test_words_are_counted_in_texts_from_the_whole_of_a_sorted_file(folder):
    """And in the order of the file, so that they are those of the file where all of it is counted."""
    sorted_by_subject = [f"{text} {'early' if i < 2000 else 'late'} {i}" for i, text in enumerate(some_texts(4000))]
    with mock.patch("echo_embeddings.tuning.tune.Lexical.fit", side_effect=Lexical.fit) as fit:
        tune(folder, sorted_by_subject, options=FLOAT32, passes=PASSES[3:])
        tune(folder, TEXTS, options=FLOAT32, passes=PASSES[3:])
    counted, all_ = fit.call_args_list[1].args[0], fit.call_args_list[3].args[0]
    assert len(counted) == 2000
    assert 900 < sum("late" in text for text in counted) < 1100
    assert all_ == TEXTS


def test_a_number_is_that_of_an_encoder(tuned, folder):
    """What one pass gives for all exits is what an encoder with that config gives."""
    from echo_embeddings.tuning.halves import Halves, usable

    halves = Halves.of(usable(TEXTS, 500, 64)[:30], 64)
    for one in [one for one in tuned.tried if one.candidate.transform == "none" and not one.words][::5]:
        encoder = EchoEncoder(folder, one.candidate.config(512), dtype="float32")
        measured = halves.measure(encoder.encode_documents(halves.texts))
        np.testing.assert_allclose(measured, one.numbers, atol=1e-4)


def test_a_second_run_gives_the_same(tuned, folder, tmp_path):
    again = tune(folder, TEXTS, options=FLOAT32, minutes=60)
    assert again.tried == tuned.tried
    for number, found in enumerate((tuned, again)):
        found.encoder.save_pretrained(tmp_path / str(number))
    one, other = (sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in "01")
    assert [path.name for path in one] == [path.name for path in other]
    for a, b in zip(one, other, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name
    expected = tuned.encoder.encode_documents(TEXTS[:3])
    np.testing.assert_allclose(EchoEncoder(tmp_path / "0").encode_documents(TEXTS[:3]), expected, atol=1e-6)


def test_for_late_chunking_only_configs_are_tried_that_have_vectors_for_chunks(folder):
    one_word = next(one for one in PASSES if one.template.pool_tail)
    found = tune(folder, TEXTS, options=FLOAT32, minutes=60, passes=[one_word, PASSES[0]], late_chunking=True)
    assert found.skipped == {one_word: "it has no vectors for chunks"}
    assert {one.candidate.of for one in found.tried} == {PASSES[0]}
    found.encoder.encode_chunks(TEXTS[0], [(0, 20)])
    with pytest.raises(ConfigError, match="late_chunking=True leaves none of these passes: all pool what follows"):
        tune(folder, TEXTS, options=FLOAT32, passes=[one_word], late_chunking=True)


def test_without_time_the_first_pass_is_tried_and_the_rest_is_named(folder):
    found = tune(folder, TEXTS, options=FLOAT32, minutes=1e-9)
    assert found.skipped == dict.fromkeys(PASSES[1:], "no time was left")
    assert {one.candidate.of for one in found.tried} == {PASSES[0]}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"texts": TEXTS[:9]}, InputError, "of these 9 texts, 9 differ"),
        ({"texts": "one text"}, TypeError, "list of texts"),
        ({"minutes": 0}, ConfigError, "minutes=0: give a number above 0"),
        ({"max_cost": float("nan")}, ConfigError, "max_cost=nan: give a number above 0"),
        ({"max_cost": 0.01}, ConfigError, "max_cost=0.01 leaves no configuration"),
        ({"passes": []}, ConfigError, "leaves nothing to try"),
        ({"options": FLOAT32.replace(precision="int8")}, ConfigError, r"tuned\.encoder\.fit_ranges\(texts\)\.with_pre"),
    ],
)
def test_bad_arguments(folder, arguments, error, message):
    with pytest.raises(error, match=message):
        tune(folder, **{"texts": TEXTS, "options": FLOAT32, "passes": PASSES[:1]} | arguments)


def test_the_command(folder, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    target = tmp_path / "tuned"
    arguments = ["tune", str(folder), str(tmp_path / "texts.txt"), "--output", str(target), "--dtype", "float32"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert f"wrote {target}; use it as EchoEncoder" in done.output.replace("\n", "")
    written = json.loads((target / "tuned.json").read_text())
    assert written["tried"][0]["score"] >= written["tried"][1]["score"]
    shown = (target / "tuned.html").read_text()
    assert "<h3>classical</h3>" in shown
    assert "<h2>Nearest texts, before and after</h2>" in shown
    assert EchoEncoder(target).config != EchoConfig.preset("echo")
    assert EchoEncoder(target).encode_documents("a").ndim == 1
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "exists; choose a folder that does not" in again.output


def command(folder, texts, target, *more):
    arguments = ["tune", str(folder), str(texts), "--output", str(target), "--minutes", "0.0001", *more]
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n")
    return path


def test_the_folder_is_whole_with_what_was_tried_or_not_there(folder, texts, tmp_path):
    """Whenever it is interrupted: Ctrl-C while the model runs, or an error while the page is written."""
    for target, name in (
        ("echo_embeddings.tuning.tune.Lexical.fit", KeyboardInterrupt),
        ("echo_embeddings.cli.tune.page", OSError),
    ):
        with mock.patch(target, side_effect=name):
            assert command(folder, texts, tmp_path / "tuned").exit_code in (1, 130)
        assert [path.name for path in tmp_path.iterdir()] == ["texts.txt"]


def test_a_second_run_into_one_folder_is_refused_before_the_model_runs(folder, texts, tmp_path):
    with locked(tmp_path / "tuned"), mock.patch("echo_embeddings.tuning.tune", side_effect=AssertionError):
        done = command(folder, texts, tmp_path / "tuned")
    assert done.exit_code == 1
    assert "is being written by process" in done.output


def test_what_a_model_cannot_be_written_to_is_said_before_it_runs(folder, texts, tmp_path):
    (tmp_path / "file").write_text("")
    for target, said in (
        (tmp_path / "file", "exists; choose a folder that does not"),
        (tmp_path / "none" / "tuned", f"there is no folder {tmp_path / 'none'}; make it first"),
        (Path("/proc/tuned"), "/proc/tuned: "),
    ):
        with mock.patch("echo_embeddings.tuning.tune", side_effect=AssertionError):
            done = command(folder, texts, target)
        assert done.exit_code == 1, done.output
        assert said in done.output.replace("\n", "")
    assert "--dtype int8: the model is saved" in command(folder, texts, tmp_path / "a", "--dtype", "int8").output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "texts.txt"]


def test_the_page_shows_texts_as_they_are(folder, tmp_path):
    """Half characters and what a browser would obey."""
    (tmp_path / "texts.jsonl").write_text(
        "".join(json.dumps({"text": f"<script>\ud800 & {text}"}) + "\n" for text in TEXTS)
    )
    done = command(folder, tmp_path / "texts.jsonl", tmp_path / "<i>")
    assert done.exit_code == 0, done.output
    shown = (tmp_path / "<i>" / "tuned.html").read_text(encoding="utf-8")
    assert "<script>" not in shown
    assert "&lt;script&gt;\ufffd &amp;" in shown


# --- labels, and what is shown ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pairs that share some of their words: the more, the higher their score."""
    random = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    rows = ["score\tsentence1\tsentence2"]
    for i in range(60):
        words = random.choice(WORDS, size=10)
        other = [*words[: i % 11], *random.choice(WORDS, size=10 - i % 11)]
        rows.append(f"{i % 11}\t{' '.join(words)}\t{' '.join(other)}")
    path.write_text("\n".join(rows) + "\n")
    return path


def test_what_cannot_be_tuned_is_said_with_what_to_give(folder):
    with pytest.raises(TypeError, match=r"model must be a hub id, .*, not a LlamaModel: .* by their save_pretrained"):
        tune(tiny("llama"), TEXTS)
    with pytest.raises(TypeError, match=r"not a str; open it: .*\.evaluation\.open_dataset\('pairs.tsv'\)"):
        tune(folder, TEXTS, pairs="pairs.tsv")
    with pytest.raises(TypeError, match=r"options must be EncoderOptions\(\.\.\.\), not a dict"):
        tune(folder, TEXTS, options={"device": "cpu"})
    with pytest.raises(TypeError, match=r"list of tuning\.candidates\.Pass\(name, template, start\), not 'echo'"):
        tune(folder, TEXTS, passes=["echo"])


def test_a_folder_that_has_lost_layers_is_tuned_with_a_warning(tuned, tmp_path):
    tuned.encoder.save_pretrained(tmp_path)
    with pytest.warns(
        LeftOutWarning, match="layers above its exit layer were not saved, .* model that it was made from"
    ):
        tune(tmp_path, TEXTS, options=FLOAT32, passes=PASSES[3:])


def test_labels_decide_and_those_held_out_judge(folder, pairs):
    data = open_dataset(pairs)
    found = tune(folder, TEXTS, pairs=data, options=FLOAT32, minutes=60, passes=PASSES[:1])
    deciding, held_out = data.parted(300)
    assert found.names == ("Spearman",)
    for one in [one for one in found.tried if one.candidate.transform == "none" and not one.words][:2]:
        encoder = EchoEncoder(folder, one.candidate.config(512), dtype="float32")
        score = deciding.score(encoder.encode_documents(deciding.texts[0]), np.empty((0, encoder.dimension)))
        assert one.numbers == pytest.approx((score / 100,), abs=1e-3)
    plain = [one.numbers[0] for one in found.tried if not one.words]
    assert found.tried[0].numbers[0] == max(plain)
    assert found.best.numbers[0] == max(one.numbers[0] for one in found.tried)
    expected = held_out.score(found.encoder.encode_documents(held_out.texts[0]), np.empty((0, found.encoder.dimension)))
    rule = EchoEncoder(folder, "any-model", dtype="float32")
    before = held_out.score(rule.encode_documents(held_out.texts[0]), np.empty((0, rule.dimension)))
    assert found.gain.after == pytest.approx(expected, abs=0.5)
    assert found.gain.before == pytest.approx(before, abs=0.5)
    assert (found.gain.metric, found.gain.size) == ("Spearman", "30 pairs")


def test_queries_have_words_of_twice_the_length(folder, tmp_path):
    rows = [{"anchor": " ".join(text.split()[:9]), "positive": text} for text in TEXTS]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = open_dataset(tmp_path / "pairs.jsonl")
    found = tune(folder, TEXTS, pairs=data, options=FLOAT32, minutes=60, passes=PASSES[:1])
    _, held_out = data.parted(300)
    documents, queries = held_out.texts
    config = found.encoder.config
    expected = held_out.score(found.encoder.encode_documents(documents), found.encoder.encode_queries(queries))
    assert config.lexical is not None
    assert config.lexical.weight("query") == 2 * config.lexical.weight("document")
    assert found.gain.after == pytest.approx(expected, abs=0.5)
    assert found.gain.size == "30 queries, 60 documents"
    assert "nDCG@10 x100 on what was held out (30 queries, 60 documents): " in page(found, "model")


def test_neighbours_are_those_of_the_rule_and_of_the_choice(tuned, folder):
    rule = EchoEncoder(folder, "any-model", dtype="float32")
    assert tuned.neighbours
    for one in tuned.neighbours[:2]:
        assert one.text not in [text for text, _ in one.before + one.after]
        for encoder, near in ((rule, one.before), (tuned.encoder, one.after)):
            vectors = encoder.encode_documents([one.text, *(text for text, _ in near)])
            np.testing.assert_allclose(vectors[1:] @ vectors[0], [cosine for _, cosine in near], atol=1e-2)


def test_what_an_architecture_cannot_run_is_left_out_and_named(tmp_path):
    config = tf.MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=6, state_size=4)
    tf.AutoModel.from_config(config).save_pretrained(tmp_path)
    small_tokenizer(TEXTS).save_pretrained(tmp_path)
    found = tune(tmp_path, TEXTS, options=FLOAT32, minutes=60, passes=[PASSES[0], PASSES[3]])
    assert list(found.skipped) == [PASSES[0]]
    assert "late echo does not know how to run MambaBlock" in found.skipped[PASSES[0]]
    assert found.neighbours == []
    with pytest.raises(ModelError, match="late echo does not know how to run MambaBlock"):
        tune(tmp_path, TEXTS, options=FLOAT32, passes=PASSES[:1])


def saved(folder, **changes):
    tiny("llama", max_position_embeddings=1024, tie_word_embeddings=True, **changes).save_pretrained(folder)
    small_tokenizer(TEXTS).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_model_of_few_layers_leaves_out_what_it_has_no_layers_for(depth, tmp_path, monkeypatch):
    runs = []
    monkeypatch.setattr(Runtime, "states_at_exits", counted(Runtime.states_at_exits, runs))
    found = tune(saved(tmp_path, num_hidden_layers=depth), TEXTS, options=FLOAT32, minutes=60)
    why = [found.skipped.get(one) for one in PASSES]
    assert why[1] is None
    assert why[3] is None
    assert len(runs) == why.count(None), "the model does not run for what is not tried"
    if depth == 1:
        assert "mean layers 1 and 1 of a model with 1" in why[0]
    if depth == 2:
        assert why[0] == "max_cost=1.1 leaves no configuration; the cheapest layer costs more"
    if depth == 4:
        assert why[0] is None
        assert why[2] == "in this model its copy is made at layer 2 too, so it is the same as one before"
    assert found.encoder.encode_documents(TEXTS[:2]).shape == (2, found.encoder.dimension)


def counted(function, calls):
    def call(*arguments, **more):
        calls.append(arguments)
        return function(*arguments, **more)

    return call


def test_a_model_whose_unembedding_is_not_in_memory_has_no_embed_filter(tmp_path):
    tiny("llama", max_position_embeddings=1024).save_pretrained(tmp_path)
    small_tokenizer(TEXTS).save_pretrained(tmp_path)
    found = tune(tmp_path, TEXTS, options=FLOAT32, passes=PASSES[3:])
    assert {one.candidate.transform for one in found.tried} == set(TRANSFORMS) - {"embed-filter"}


def test_the_command_with_labels(folder, pairs, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    arguments = ["tune", str(folder), str(tmp_path / "texts.txt"), "-o", str(tmp_path / "t"), "--pairs", str(pairs)]
    done = CliRunner().invoke(app, [*arguments, "--dtype", "float32", "--minutes", "0.001"])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "Spearman x100 on what was held out (30 pairs)" in said
    assert "not tried: classical: no time was left" in said
    written = json.loads((tmp_path / "t" / "tuned.json").read_text())
    assert set(written["gain"]) == {"metric", "size", "before", "after"}
    assert "Spearman" in written["tried"][0]
    assert "with the rule for any model" in (tmp_path / "t" / "tuned.html").read_text()
