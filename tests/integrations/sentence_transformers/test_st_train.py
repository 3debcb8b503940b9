"""``train`` on the tests' tiny model, and once on the real one: recipes, exact resuming, what is saved, and errors."""

import gzip
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder, EncoderOptions, Lexical, Standardize, tune
from echo_embeddings.cli.app import app
from echo_embeddings.errors import InputError
from echo_embeddings.tuning.candidates import PASSES
from echo_embeddings.vectors.normalize import unit
from sentence_transformers_echo import export_stock, load
from sentence_transformers_echo.training import Data, Lora, Recipe, mine, student, train
from sentence_transformers_echo.training import data as rows
from tests.architectures import tiny
from tests.conftest import cosines

PAIRS = [
    ("When does the ferry leave?", "The boat to the island departs at six in the morning."),
    ("How is bread made?", "Mix flour, water, salt and yeast, let it rise, and bake it."),
    ("What do bees make?", "Honey is produced by bees from the nectar of flowers."),
    ("Why is the sky blue?", "Air scatters short wavelengths of sunlight more than long ones."),
    ("Who wrote the report?", "The committee's secretary drew up the document."),
    ("Where do penguins live?", "These birds are found on the coasts of Antarctica."),
    ("How tall is the tower?", "The building rises three hundred metres above the river."),
    ("What is a violin made of?", "Spruce and maple are the usual woods of this instrument."),
]


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


@pytest.fixture
def pairs(tmp_path):
    return write(tmp_path / "pairs.jsonl", [{"anchor": a, "positive": p} for a, p in PAIRS])


@pytest.fixture
def texts(tmp_path):
    return write(tmp_path / "texts.jsonl", [{"text": side} for pair in PAIRS for side in pair])


@pytest.fixture(scope="module")
def base(tokenizer, tmp_path_factory):
    """A folder with a tiny model, as a user's own would be."""
    folder = tmp_path_factory.mktemp("base")
    tiny("llama", vocab_size=len(tokenizer)).base_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def teacher(tokenizer, tmp_path_factory):
    """A plain SentenceTransformer of another size, which needs nothing of ours."""
    folder = tmp_path_factory.mktemp("teacher")
    model = tiny("llama", vocab_size=len(tokenizer), hidden_size=64)
    export_stock(EchoEncoder(model, EchoConfig("{text}", pooling="last"), tokenizer=tokenizer), folder)
    return str(folder)


@pytest.fixture
def recipe(base, tmp_path):
    def make(*data, **fields):
        own = {"model": base, "config": "late-echo", "steps": 4, "batch_size": 4, "lora": Lora(rank=4), "save_every": 2}
        return Recipe(data=data, output=str(tmp_path / "out"), **own | fields)

    return make


def run(recipe, **options):
    return train(recipe, show_progress=False, **options)


def trained_weights(folder):
    return load_file(folder / "adapter_model.safetensors") | load_file(folder / "echo_transforms.safetensors")


def test_every_loss_in_one_run_and_every_loader(recipe, pairs, texts, teacher, tmp_path):
    lora = Lora(rank=4, dropout=0.1, first_layer=2, modules=("q_proj", "down_proj"))
    simcse = Data(texts, "simcse", name="alone")
    mixed = recipe(
        Data(pairs),
        Data(texts, "distill"),
        simcse,
        Data(texts, "rank", name="near"),
        teacher=teacher,
        dimension=24,
        lora=lora,
        matryoshka=(24, 8),
    )
    done = run(mixed)
    assert done.rows == {"pairs": 8, "texts": 16, "alone": 16, "near": 16}
    weights = load_file(done.folder / "adapter_model.safetensors")
    assert {name.split(".")[3] for name in weights} == {"2", "3", "4"}  # late echo exits at 0.8 of the tiny model
    assert {name.split(".")[5] for name in weights} == {"q_proj", "down_proj"}
    encoder = EchoEncoder(done.folder, dtype="float32")
    vectors = encoder.encode_documents([text for pair in PAIRS for text in pair])
    assert vectors.shape == (16, 24)
    for model in (
        load(done.folder, model_kwargs={"dtype": "float32"}),
        SentenceTransformer(str(done.folder), trust_remote_code=True, model_kwargs={"dtype": torch.float32}),
    ):
        assert cosines(model.encode_document([text for pair in PAIRS for text in pair]), vectors).min() > 0.99999
    encoder.save_pretrained(tmp_path / "merged")
    again = EchoEncoder(tmp_path / "merged").encode_documents([text for pair in PAIRS for text in pair])
    assert cosines(again, vectors).min() > 0.99999
    card = (done.folder / "README.md").read_text()
    assert "| pairs | contrastive | 8 | not stated |" in card
    assert PAIRS[0][0] not in card


def test_resumed_training_gives_the_weights_of_an_uninterrupted_one(recipe, pairs, texts, teacher, tmp_path):
    fields = {"teacher": teacher, "dimension": 24, "lora": Lora(rank=4, dropout=0.1)}
    both = recipe(Data(pairs), Data(texts, "distill"), Data(texts, "rank", name="near"), **fields)
    whole = trained_weights(run(both).folder)
    broken = both.replace(output=str(tmp_path / "broken"))
    shutil.copytree(both.output, broken.output)
    shutil.rmtree(tmp_path / "broken" / "checkpoints" / "checkpoint-4")  # as if it had died before
    (tmp_path / "broken" / "adapter_model.safetensors").unlink()
    resumed = trained_weights(run(broken, resume=True).folder)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    other = trained_weights(run(both.replace(output=str(tmp_path / "other"), seed=1)).folder)
    assert not all(torch.equal(whole[name], other[name]) for name in whole)


def test_a_resumed_run_must_have_the_same_adapters(recipe, pairs):
    run(recipe(Data(pairs)))
    with pytest.raises(ConfigError, match="was written by a recipe with other adapters; train into another output"):
        run(recipe(Data(pairs), lora=Lora(rank=2), steps=6), resume=True)


def test_training_goes_on_from_a_trained_adapter(recipe, pairs, tmp_path):
    first = run(recipe(Data(pairs), dtype="float32")).folder
    on = recipe(Data(pairs), dtype="float32", lora=Lora(rank=4, start=str(first)))
    started = student.trained(student.make(on))
    saved = load_file(first / "adapter_model.safetensors")
    assert len(started) == len(saved)
    assert all(any(torch.equal(value, other) for other in saved.values()) for value in started.values())
    with pytest.raises(ConfigError, match=r"has other layers, modules or another rank than this recipe; set rank"):
        student.make(on.replace(lora=Lora(rank=2, start=str(first))))
    shallow = EchoConfig("{text}\n{text}", start_layer=1, exit_layer=3)
    with pytest.raises(ConfigError, match="exit_layer at least as high"):
        student.make(on.replace(config=shallow))
    with pytest.raises(
        ConfigError, match=r"start='.*nowhere' has no adapter_model.safetensors; give a trained adapter"
    ):
        student.make(on.replace(lora=Lora(rank=4, start=str(tmp_path / "nowhere"))))


def test_layers_that_a_trained_adapter_lacks_start_anew(recipe, pairs, tmp_path):
    first = run(recipe(Data(pairs), dtype="float32")).folder  # exits at 5 of 6 layers
    deeper = EchoConfig("{text}\n{text}", start_layer=4)
    on = recipe(Data(pairs), dtype="float32", lora=Lora(rank=4, start=str(first)), config=deeper)
    started = student.trained(student.make(on))
    saved = load_file(first / "adapter_model.safetensors")
    known = [name for name, value in started.items() if any(torch.equal(value, other) for other in saved.values())]
    assert {name.split(".layers.")[1][0] for name in known} == {"0", "1", "2", "3", "4"}
    fresh = [value for name, value in started.items() if name not in known and "lora_B" in name]
    assert fresh
    assert not any(value.any() for value in fresh)


def test_the_map_of_the_adapter_that_training_goes_on_from_can_stay(recipe, texts, teacher, tmp_path):
    first = recipe(Data(texts, "rank"), teacher=teacher, dimension=24, dtype="float32")
    folder = str(run(first).folder)
    on = first.replace(output=str(tmp_path / "on"), lora=Lora(rank=4, start=folder), whiten="start", steps=2)
    model = student.make(on)
    sentences = [text for pair in PAIRS for text in pair]
    raw = student._pooled(model, sentences)
    model[0].change(transforms=(Standardize.fit(raw),))
    behind = student.behind_pooling(model, on, raw, raw)
    ours = behind(student._pooled(model, sentences))
    assert cosines(ours, EchoEncoder(folder, dtype="float32").encode_documents(sentences)).min() > 0.9999
    before, after = (trained_weights(name) for name in (Path(folder), run(on).folder))
    assert all(torch.equal(before[name], after[name]) for name in before if "lora" not in name)
    assert not all(torch.equal(before[name], after[name]) for name in before if "lora" in name)
    with pytest.raises(ConfigError, match=r"which this config changes first \(project\); give config its fields"):
        student._undone((behind,), behind)
    deeper = EchoConfig("{text}\n{text}", start_layer=4)
    with pytest.raises(ConfigError, match="whose adapter has fewer layers than this recipe trains; set first_layer"):
        student.make(on.replace(config=deeper))
    with pytest.raises(ConfigError, match="stands no map to 8 dimensions; give whiten a power"):
        run(on.replace(output=str(tmp_path / "other"), dimension=8))


def test_words_stand_beside_what_was_distilled(recipe, texts, teacher):
    lexical = Lexical.fit([text for pair in PAIRS for text in pair], blocks=(8, 40))
    config = recipe(Data(texts)).echo_config.replace(lexical=lexical)
    taught = recipe(Data(texts, "distill"), teacher=teacher, dimension=24, dtype="float32", config=config)
    folder = run(taught).folder
    assert EchoConfig.load(folder).lexical == lexical
    sentences = [text for pair in PAIRS for text in pair]
    encoder = EchoEncoder(folder, dtype="float32")
    assert encoder.dimension == 24 + 48
    words = unit(encoder.encode_documents(sentences)[:, 8:16])
    assert cosines(words, unit(lexical.vectors(sentences)[:, :8])).min() > 0.99999


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")
@pytest.mark.slow  # a minute of compiling
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # torch.compile's own
def test_compiled_training_is_the_same_but_for_rounding(recipe, pairs, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    plain = recipe(Data(pairs), dtype="float32", lora=Lora(rank=4, first_layer=2))
    compiled = plain.replace(output=str(tmp_path / "compiled"), compiled=True)
    layers = student.make(compiled)[0].model.layers
    assert all(layer._compiled_call_impl is not None for layer in layers)
    one, other = (load_file(run(made).folder / "adapter_model.safetensors") for made in (plain, compiled))
    assert one.keys() == other.keys()
    for name in one:
        assert (one[name] - other[name]).abs().max() < 1e-3 * one[name].abs().max(), name


def test_folding_the_head_changes_no_vector(recipe, texts, teacher):
    made = recipe(Data(texts, "distill"), teacher=teacher, dimension=24, whiten=None)
    model = student.make(made)
    sentences = [text for pair in PAIRS for text in pair]
    targets = np.linalg.qr(np.random.default_rng(0).normal(size=(24, 24)))[0][:16].astype(np.float32)
    student.fit_head(model, sentences, targets)
    assert isinstance(model[0].echo_config.transforms[0], Standardize)
    before = model.encode(sentences)
    folded = student.folded(model, made, sentences, targets)
    assert [transform.name for transform in folded[0].echo_config.transforms] == ["project"]
    assert cosines(folded.encode(sentences), before).min() > 0.99999
    whitened = student.folded(model, made.replace(whiten=1.0), sentences, targets)
    whitened = whitened.encode(sentences, normalize_embeddings=False)
    assert whitened.shape == (16, 24)


def test_only_layers_that_matter_are_trained(recipe, pairs):
    model = student.make(recipe(Data(pairs), lora=Lora(rank=2, first_layer=3)))
    names = set(student.trained(model))
    assert names
    assert all("lora_" in name for name in names)
    assert {name.split("layers.")[1].split(".")[0] for name in names} == {"3", "4"}
    features = model.preprocess(["a text"])
    seen = []
    model[0].model.layers[2].register_forward_hook(lambda *call: seen.append(call[2]))
    model.train()(features)
    assert not seen[0].requires_grad  # below, nothing is kept for a backward pass
    with pytest.raises(
        ConfigError, match=r"first_layer=9, modules=None leave nothing to train; this model runs layers"
    ):
        student.make(recipe(Data(pairs), lora=Lora(first_layer=9)))


def test_the_built_in_model_learns_pairs(builtin_folder, pairs, tmp_path):
    """The real model: after a few steps questions lie nearer to their answers than before, against all others."""
    zero = EchoEncoder(config="zero-shot")

    def loss(encoder):
        queries, answers = (encoder.encode_documents(list(side)) for side in zip(*PAIRS, strict=True))
        scores = torch.from_numpy(20 * queries @ answers.T)
        return torch.nn.functional.cross_entropy(scores, torch.arange(len(PAIRS))).item()

    made = Recipe([Data(pairs)], str(tmp_path / "out"), steps=6, batch_size=8, lora=Lora(first_layer=18))
    tuned = EchoEncoder(run(made).folder)
    assert loss(tuned) < 0.8 * loss(zero)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "SmolLM2-135M-Instruct"  # no folder of this machine
    assert tuned.max_length == zero.max_length


def test_a_last_token_model_goes_out_by_the_stock_export(recipe, pairs, tmp_path):
    config = {"template": "{text}\nAgain:\n{text}", "pooling": "last"}
    encoder = EchoEncoder(run(recipe(Data(pairs), config=config)).folder, dtype="float32")
    export_stock(encoder, tmp_path / "stock")
    plain = SentenceTransformer(str(tmp_path / "stock"))
    questions = [question for question, _ in PAIRS]
    assert cosines(plain.encode(questions), encoder.encode_documents(questions)).min() > 0.9999


def test_development_sets_are_judged_before_and_after(recipe, pairs, tmp_path):
    lines = ["score\tsentence1\tsentence2", "5\ta cat\ta cat", "0\ta cat\tthe tax law", "2\ta dog\ta cat"]
    (tmp_path / "dev.tsv").write_text("\n".join(lines) + "\n")
    done = run(recipe(Data(pairs), evaluate=(str(tmp_path / "dev.tsv"),), evaluate_every=2))
    assert done.before.keys() == done.after.keys() == {"dev", "average"}
    assert -100 <= done.after["dev"] == done.after["average"] <= 100


def test_scores_are_those_of_whole_texts_however_few_tokens_training_reads(recipe, pairs, tmp_path):
    ends = enumerate(("tax law", "church", "sea", "lake", "river"))
    rows = [f"{i}\tthe small old mill by the river\tthe small old mill by the {end}" for i, end in ends]
    (tmp_path / "dev.tsv").write_text("\n".join(["score\tsentence1\tsentence2", *rows]) + "\n")
    still = {"steps": 1, "learning_rate": 1e-12, "max_length": 3, "evaluate": (str(tmp_path / "dev.tsv"),)}
    done = run(recipe(Data(pairs), **still))
    assert done.before["dev"] == pytest.approx(done.after["dev"])
    assert done.before["dev"] != 0  # as it is where three tokens are read: then all pairs are alike


def test_the_output_folder_must_be_empty(recipe, pairs, tmp_path):
    write(tmp_path / "notes", [])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes").write_text("mine")
    with pytest.raises(ConfigError, match=r"out' is not empty; go on with resume \(--resume\), or name another folder"):
        run(recipe(Data(pairs)))
    assert (tmp_path / "out" / "notes").read_text() == "mine"


class TestData:
    def read(self, path, tmp_path, **fields):
        return rows.read(Data(str(path), **fields), tmp_path, seed=0)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ('{"anchor": "a"}', r"bad\.jsonl:2: there is no column 'positive', only anchor; name the columns"),
            ('{"anchor": "a", "positive": null}', r"bad\.jsonl:2: 'positive' is null"),
            ('{"anchor": "a", "positive": 3}', r"bad\.jsonl:2: 'positive' is int \(3\), not a text"),
            ('{"anchor": "a", "positive": " "}', r"bad\.jsonl:2: 'positive' is empty, and nothing can be learned"),
            ("{nothing", r"bad\.jsonl:2: this line is not JSON"),
        ],
    )
    def test_a_bad_row_is_named_by_file_and_line(self, tmp_path, line, message):
        (tmp_path / "bad.jsonl").write_text('{"anchor": "a", "positive": "b"}\n' + line + "\n")
        with pytest.raises(InputError, match=message):
            self.read("bad.jsonl", tmp_path)

    def test_negatives_ratio_limit_and_gzip(self, tmp_path):
        records = [{"q": f"q{i}", "d": f"d{i}", "n": f"n{i}", "m": f"m{i}"} for i in range(10)]
        with gzip.open(tmp_path / "rows.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
        read = self.read("rows.jsonl.gz", tmp_path, columns=("q", "d", "n", "m"), ratio=0.5)
        assert read.column_names == ["anchor", "positive", "negative_1", "negative_2"]
        assert len(read) == 5
        assert all(row["anchor"][1:] == row["negative_2"][1:] for row in read)
        twice = self.read("rows.jsonl.gz", tmp_path, columns=("q", "d"), ratio=2.0)
        assert sorted(twice["anchor"]) == sorted([f"q{i}" for i in range(10)] * 2)
        assert len(self.read("rows.jsonl.gz", tmp_path, columns=("q", "d"), limit=3)) == 3

    def test_a_negative_column_is_found_by_its_name(self, tmp_path):
        write(tmp_path / "t.jsonl", [{"anchor": "a", "positive": "b", "negative": "c"}])
        assert self.read("t.jsonl", tmp_path).column_names == ["anchor", "positive", "negative_1"]

    def test_sentences_come_each_once(self, tmp_path):
        write(tmp_path / "t.jsonl", [{"text": "This is the first sentence. And here comes another one! No."}] * 2)
        read = self.read("t.jsonl", tmp_path, loss="distill", sentences=True)
        assert sorted(read["text"]) == ["And here comes another one!", "This is the first sentence."]

    def test_nothing_to_train_on(self, tmp_path):
        write(tmp_path / "t.jsonl", [])
        with pytest.raises(InputError, match=r"t\.jsonl has nothing to train on"):
            self.read("t.jsonl", tmp_path)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"loss": "triplet"}, "loss='triplet' is unknown; choose one of contrastive, distill, rank, simcse"),
            ({"columns": ("a",)}, r"columns=\['a'\]: give pairs, or triples with hard negatives"),
            ({"ratio": 0}, "ratio=0: give a number above 0; 1 uses each row once"),
            ({"limit": 0}, "limit=0: give a whole number of at least 1"),
            ({"sentences": True}, "sentences=True breaks pairs apart"),
        ],
    )
    def test_bad_fields(self, fields, message):
        with pytest.raises(ConfigError, match=f"p.jsonl: {message}"):
            Data("p.jsonl", **fields)


class TestRecipe:
    def test_the_paper(self):
        paper = Recipe.preset("paper", data=[Data("p.jsonl")], output="out")
        assert (paper.lora.rank, paper.lora.alpha, paper.learning_rate) == (16, 16, 8e-4)
        assert (paper.batch_size, paper.steps, paper.temperature) == (2048, 720, 1 / 50)
        assert paper.echo_config == EchoConfig.preset("echo-finetuned")
        with pytest.raises(ConfigError, match="there is no recipe 'papers'; choose one of paper"):
            Recipe.preset("papers")

    def test_a_file(self, tmp_path):
        (tmp_path / "r.yaml").write_text(
            "preset: paper\noutput: out\nsteps: 3\nconfig: {preset: late-echo, max_length: 99}\n"
            "lora: {rank: 8, modules: [q_proj]}\ndata:\n  - {path: p.jsonl, ratio: 0.5}\n"
        )
        made = Recipe.load(tmp_path / "r.yaml", seed=7, output=None)
        assert (made.steps, made.seed, made.output, made.batch_size) == (3, 7, "out", 2048)
        assert made.echo_config == EchoConfig.preset("late-echo").replace(max_length=99)
        assert made.lora == Lora(rank=8, modules=("q_proj",))
        assert made.data == (Data("p.jsonl", ratio=0.5),)
        assert made.data_folder == str(tmp_path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("output: out", "there is no 'data'; a recipe needs it"),
            ("data: [{path: p}]\noutput: o\nstep: 3", "'step' is no field of a recipe; choose from data, output"),
            ("data: [{path: p, ration: 1}]\noutput: o", "'ration' is no field of a entry of data"),
            ("data: p.jsonl\noutput: o", "data must be a list of entries such as '- path: pairs.jsonl'"),
            (
                "data: [{path: p}]\noutput: o\nlearning_rate: 1e-3",
                r"learning_rate='1e-3': give a number above 0 \(in Y",
            ),
            ("data: [{path: p}]\noutput: o\nsteps: 0", "steps=0: give a whole number of at least 1"),
            ("data: [{path: p}]\noutput: o\nwarmup: 1", "warmup=1: give a part of the steps"),
            ("data: [{path: p}, {path: p}]\noutput: o", "two files are named 'p'; give one of them another name"),
            ("data: [{path: p, loss: distill}]\noutput: o", "loss='distill' needs a teacher and a dimension"),
            ("data: [{path: p, loss: rank}]\noutput: o\nteacher: t", "loss='rank' needs a teacher and a dimension"),
            (
                "data: [{path: p, loss: rank}]\noutput: o\nteacher: t\ndimension: 8\nwhiten: null",
                "loss='rank' ranks whitened states; give whiten a power",
            ),
            ("data: [{path: p}]\noutput: o\nwhiten: 3", "whiten=3: give a power from 0 to 1, 'start' for the map"),
            ("data: [{path: p}]\noutput: o\nwhiten: all", "whiten='all': give a power from 0 to 1"),
            ("data: [{path: p}]\noutput: o\nwhiten: start", "keeps the map of lora.start, which is not set"),
            ("data: [{path: p}]\noutput: o\nranking_steps: -1", "ranking_steps=-1: give a whole number of at least 0"),
            (
                "data: [{path: p}]\noutput: o\nteacher: t",
                "teacher='t' is named, but no data has loss='distill' or 'rank'",
            ),
            ("data: [{path: p, loss: simcse}]\noutput: o", "by dropout; set lora: dropout: 0.1"),
            ("data: [{path: p}]\noutput: o\nconfig: {layers: 3}", "config has the unknown field 'layers'"),
            ("data: [{path: p}]\noutput: o\nconfig: 3", "config=3: give a preset's name, or fields"),
            ("- a\n- b", "must hold fields such as 'data:' and 'output:'"),
            ("a: [", "is not YAML"),
        ],
    )
    def test_errors_name_the_file_and_the_field(self, tmp_path, content, message):
        (tmp_path / "r.yaml").write_text(content)
        with pytest.raises(ConfigError, match=rf"r\.yaml.*{message}"):
            Recipe.load(tmp_path / "r.yaml")


def test_a_teacher_that_cannot_work(recipe, texts, teacher):
    with pytest.raises(ConfigError, match="the package 'no_such_package' is not installed"):
        run(recipe(Data(texts, "distill"), teacher="package:no_such_package/model", dimension=8))
    with pytest.raises(ConfigError, match="dimension=65 is more than the model's 32"):
        run(recipe(Data(texts, "distill"), teacher=teacher, dimension=65))


class TestMining:
    def test_negatives_are_near_but_not_right(self, builtin_encoder, tmp_path):
        copies = [*PAIRS, ("When does the boat go?", "The boat to the island departs at six in the morning!")]
        path = write(tmp_path / "pairs.jsonl", [{"anchor": a, "positive": p} for a, p in copies])
        count = mine(Data(path), tmp_path / "triples.jsonl", builtin_encoder, margin=0.05)
        mined = [json.loads(line) for line in (tmp_path / "triples.jsonl").read_text().splitlines()]
        assert count == len(mined) >= 6
        assert all(row["negative_1"] != row["positive"] for row in mined)
        by_anchor = {row["anchor"]: row["negative_1"] for row in mined}
        # The other question about the ferry has the same answer in other words: no negative.
        assert not by_anchor.get("When does the ferry leave?", "").startswith("The boat")
        read = rows.read(
            Data(str(tmp_path / "triples.jsonl"), columns=("anchor", "positive", "negative_1")), tmp_path, 0
        )
        assert len(read) == count

    @pytest.mark.parametrize(
        ("output", "fields", "options", "message"),
        [
            ("t.txt", {}, {}, "give a .jsonl or .jsonl.gz file"),
            ("t.jsonl", {"loss": "simcse"}, {}, "negatives are mined for pairs"),
            ("t.jsonl", {}, {"margin": 2}, "margin=2: give a part of the positive's score"),
            ("t.jsonl", {}, {"negatives": 60}, "negatives=60: give a number from 1 to candidates=50"),
        ],
    )
    def test_errors(self, tmp_path, output, fields, options, message):
        with pytest.raises(ConfigError, match=message):
            mine(Data("p.jsonl", **fields), tmp_path / output, **options)
        assert not list(tmp_path.iterdir())


class TestCommand:
    def run(self, *arguments, code=0):
        result = CliRunner().invoke(app, ["train", *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 else " ".join(result.stderr.split())

    @pytest.fixture
    def file(self, base, pairs, tmp_path):
        text = f"data: [path: pairs.jsonl]\noutput: {tmp_path / 'out'}\nmodel: {base}\nconfig: late-echo\n"
        (tmp_path / "recipe.yaml").write_text(text + "batch_size: 4\nlora: {rank: 4}\n")
        return tmp_path / "recipe.yaml"

    def test_a_recipe_becomes_a_model(self, file, tmp_path):
        told = json.loads(self.run(file, "--steps", 2, "--seed", 3, "--json"))
        assert told == {"folder": str(tmp_path / "out"), "before": {}, "after": {}, "rows": {"pairs": 8}}
        assert EchoEncoder(tmp_path / "out").encode_documents(["a text"]).shape == (1, 32)
        assert "seed 3." in (tmp_path / "out" / "README.md").read_text()
        assert "is not empty; go on with resume (--resume)" in self.run(file, code=1)

    def test_the_output_can_be_named(self, file, tmp_path):
        said = self.run(file, "--steps", 1, "--output", tmp_path / "here")
        assert "here is trained: EchoEncoder(" in said

    def test_bad_files(self, file, tmp_path):
        assert "error: " in self.run(tmp_path / "none.yaml", code=1)
        file.write_text("data: []\noutput: x\n")
        assert "there is no 'data'; a recipe needs it" in self.run(file, code=1)

    def test_without_the_package(self, file, monkeypatch):
        monkeypatch.setitem(sys.modules, "sentence_transformers_echo.training", None)
        said = self.run(file, code=1)
        assert "training needs sentence_transformers_echo.training: from a checkout: " in said
        assert "pip install './integrations/sentence-transformers[train]'" in said


# --- the config of the model itself -----------------------------------------------------------------------------------


def test_training_goes_on_from_what_tune_wrote(base, pairs, tmp_path):
    words = [word for pair in PAIRS for side in pair for word in side.split()]
    texts = [" ".join(words[(i * j) % len(words)] for j in range(1, 25)) for i in range(1, 60)]
    tuned = tune(base, texts, options=EncoderOptions(dtype="float32"), passes=PASSES[:1])
    tuned.encoder.save_pretrained(tmp_path / "tuned")
    file = tmp_path / "recipe.yaml"
    fields = f"data: [{{path: {pairs}}}]", f"output: {tmp_path / 'out'}", "steps: 2", "batch_size: 4", "lora: {rank: 2}"
    file.write_text("\n".join(fields))
    done = CliRunner().invoke(app, ["train", str(file), "--model", str(tmp_path / "tuned")])
    assert done.exit_code == 0, done.output
    saved, trained = EchoConfig.load(tmp_path / "tuned"), EchoEncoder(tmp_path / "out").config
    assert trained.replace(max_length=saved.max_length) == saved
    encoders = [EchoEncoder(tmp_path / name, dtype="float32") for name in ("tuned", "out")]
    before, after = (encoder.encode_documents(texts[:3]) for encoder in encoders)
    assert before.shape == after.shape
    assert cosines(before, after).max() < 0.99999


def test_a_recipe_without_a_config_takes_that_of_its_model(base, pairs):
    assert Recipe([Data(pairs)], "out").echo_config == EchoConfig.preset("zero-shot")
    made = Recipe([Data(pairs)], "out", model=base)
    assert made.config is None
    assert made.echo_config == EchoConfig.preset("any-model")
    assert Recipe([Data(pairs)], "out", model=base, config="echo").echo_config == EchoConfig.preset("echo")
