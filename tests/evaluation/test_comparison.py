"""Presets side by side: on an encoder whose vectors are known by heart, and once on the built-in model."""

import dataclasses

import numpy as np
import pytest
from transformers import AutoModel

from echo_embeddings import (
    ConfigError,
    DimensionsWarning,
    EchoConfig,
    EchoEncoder,
    ModelError,
    TruncationWarning,
    notices,
)
from echo_embeddings.errors import InputError
from echo_embeddings.evaluation import Score, compare, open_dataset
from echo_embeddings.evaluation.comparison import preset_configs, usual_presets
from echo_embeddings.model import builtin
from tests.architectures import CONFIGS, HYBRID, small_tokenizer, tiny

PAIRS = "score\tsentence1\tsentence2\n5\ta\tab\n0\ta\tzzzz\n3\ta\tabc\n"


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text(PAIRS)
    return path


class FakeEncoder:
    """A text's vector: how often it has each letter. ``classical`` gives all texts one vector."""

    precision = "float32"

    def __init__(self, config=None, log=None, model_name=builtin.NAME):
        self.model_name, self.log = model_name, [] if log is None else log
        usual = "default" if model_name == builtin.NAME else "echo"
        self.config = EchoConfig.preset(usual) if config is None else config
        self.dimension = 26
        self.truncated = dataclasses.make_dataclass("Truncated", ["texts"])(1)

    def with_config(self, config):
        if config.packaged_adapter is not None and self.model_name != builtin.NAME:
            raise ConfigError("which was trained for another model")
        return FakeEncoder(config, self.log, self.model_name)

    def why_not(self, config):
        return ""

    def encode_documents(self, texts, *, show_progress=lambda _: None):
        self.log.append(texts)
        if isinstance(texts, list):
            show_progress(len(texts))
        if self.config == EchoConfig.preset("classical"):
            texts = ["a"] * len(texts)
        counts = np.array([[text.count(chr(97 + i)) for i in range(26)] for text in texts], np.float32)
        return counts / np.maximum(np.linalg.norm(counts, axis=-1, keepdims=True), 1)

    def encode_queries(self, texts, *, show_progress):
        return np.zeros((len(texts), 26), np.float32)


def test_each_preset_gets_a_score_in_the_order_given(pairs):
    scores = compare(FakeEncoder(), pairs, ["echo", "classical"])
    assert [(score.preset, score.metric, score.dimension, score.truncated) for score in scores] == [
        ("echo", "Spearman x100", 26, 1),
        ("classical", "Spearman x100", 26, 1),
    ]
    assert scores[0].score == 100
    assert scores[1].score is None  # all cosines are equal
    assert all(isinstance(score, Score) and score.ms_per_text >= 0 for score in scores)


def test_what_is_truncated_is_said_once_a_config(tmp_path):
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "one two three"}\n')
    (tmp_path / "corpus.jsonl").write_text('{"_id": "1", "title": "", "text": "four five six"}\n')
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\n1\t1\t1\n")
    words = ["one two three", "four five six"]
    encoder = EchoEncoder(tiny("llama"), "echo", tokenizer=small_tokenizer(words))
    configs = {name: EchoConfig.preset(name).replace(max_length=2) for name in ("echo", "late-echo")}
    with pytest.warns(TruncationWarning, match=r"2 text\(s\) were truncated to max_length=2 tokens") as seen:
        compare(encoder, tmp_path, configs)
    assert [warning.filename for warning in seen] == [__file__] * 2


def test_a_data_set_that_is_open_already_and_configs_by_a_name_of_ones_own(pairs):
    dataset = open_dataset(pairs)
    (score,) = compare(FakeEncoder(), dataset, {"mine": EchoConfig.preset("echo").replace(max_length=9)})
    assert (score.preset, score.score) == ("mine", 100)
    with pytest.raises(InputError, match=r"limit=2 is for a path; open_dataset\(path, 2\) gives a smaller data set"):
        compare(FakeEncoder(), dataset, ["echo"], limit=2)
    assert len(open_dataset(str(pairs), 2).scores) == 2


def test_what_cannot_work_is_said_before_anything_is_embedded(pairs):
    encoder = FakeEncoder(model_name="other/model")
    with pytest.raises(ConfigError, match="there is no preset 'nope'"):
        compare(encoder, pairs, ["echo", "nope"])
    with pytest.raises(ConfigError, match="trained for another model"):
        compare(encoder, pairs, {"echo": EchoConfig.preset("echo"), "x": EchoConfig("{text}", packaged_adapter="x")})
    with pytest.raises(InputError, match=r"presets=\[\] names none; try any-model, echo, late-echo, classical"):
        compare(encoder, pairs, [])
    with pytest.raises(TypeError, match=r"presets must be a list of names such as \['echo'\], not one string"):
        compare(encoder, pairs, "echo")
    with pytest.raises(InputError, match="echo@half: behind @ goes a number of dimensions, such as echo@256"):
        preset_configs(["echo@half"], encoder)
    with pytest.raises(InputError, match=r"give a \.tsv or \.csv of score,sentence1,sentence2"):
        compare(encoder, "a.json", ["echo"])
    with pytest.raises(TypeError, match=r"encoder must be an EchoEncoder, not 'a/model'; make one: EchoEncoder\('a"):
        compare("a/model", pairs)
    assert not encoder.log


def test_progress_names_the_preset(pairs, capsys):
    seen = []
    compare(FakeEncoder(), pairs, ["echo"], show_progress=lambda *now: seen.append(now))
    assert seen == [("echo", 0, 4), ("echo", 4, 4)]
    compare(FakeEncoder(), pairs, ["echo"], show_progress=True)
    assert "4/4" in capsys.readouterr().err


def test_the_usual_presets_are_those_that_the_model_can_have():
    assert usual_presets(FakeEncoder())[0] == "default"
    assert "default" not in usual_presets(FakeEncoder(model_name="other/model"))


def test_saved_is_the_encoders_own_config(pairs):
    own = EchoConfig.preset("echo").replace(max_length=7)
    encoder = FakeEncoder(own, model_name="trained/folder")
    assert usual_presets(encoder) == ("saved", "any-model", "echo", "late-echo", "classical", "prompt-eol")
    assert preset_configs(["saved", "saved@9"], encoder) == {"saved": own, "saved@9": own.truncated(9)}
    assert usual_presets(FakeEncoder(model_name="other/model"))[0] == "any-model"  # it has none of its own
    with pytest.warns(DimensionsWarning, match="dimensions=384: the config was made for 256, 512, 1024"):
        preset_configs(["default@384"], FakeEncoder())


@pytest.fixture
def hybrid(tmp_path):
    """A folder that says which architecture a model has, on which late echo cannot run; it has no weights."""
    HYBRID.save_pretrained(tmp_path / "hybrid")
    return tmp_path / "hybrid"


def test_usual_presets_that_cannot_run_on_the_model_are_left_out(hybrid, pairs, monkeypatch, caplog):
    monkeypatch.setattr(notices, "_said", set())
    caplog.set_level("INFO", logger="echo_embeddings")
    assert usual_presets(EchoEncoder(hybrid)) == ("saved", "echo", "classical", "prompt-eol")
    usual_presets(EchoEncoder(hybrid))
    (said,) = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert said == (
        f"any-model and late-echo left out: {hybrid} cannot run them (late echo does not know layers of the kind "
        "'linear_attention')"
    )
    loaded = AutoModel.from_config(HYBRID).eval()
    scores = compare(EchoEncoder(loaded, tokenizer=small_tokenizer([PAIRS] * 3), dtype="float32"), pairs)
    assert [score.preset for score in scores] == ["saved", "echo", "classical", "prompt-eol"]


def test_named_presets_that_cannot_run_on_the_model_are_refused_before_the_data_is_read(hybrid, tmp_path):
    encoder = EchoEncoder(hybrid)
    with pytest.raises(ConfigError, match=r"'late-echo@9' cannot run on .*hybrid: late echo does not know layers of"):
        compare(encoder, "gone.tsv", ["echo", "late-echo@9"])
    with pytest.raises(ConfigError, match=r"'mine' cannot run on .*; use start_layer=0\. Leave it out"):
        compare(encoder, "gone.tsv", {"mine": EchoConfig.preset("echo").replace(start_layer=2)})
    CONFIGS["llama"].save_pretrained(tmp_path / "llama")
    llama = EchoEncoder(tmp_path / "llama")
    assert list(preset_configs(["echo", "late-echo"], llama)) == ["echo", "late-echo"]
    with pytest.raises(ConfigError, match=r"'deep' cannot run on .*: start_layer=9 .* of a model with 6"):
        compare(llama, "gone.tsv", {"deep": EchoConfig("{text}{text}", start_layer=9)})
    assert list(preset_configs(["echo"], EchoEncoder("no/such-model"))) == ["echo"], "no hub is asked"


def test_whether_a_model_can_run_a_preset_is_found_out_once(tmp_path, monkeypatch):
    CONFIGS["llama"].save_pretrained(tmp_path / "llama")
    encoder, asked = EchoEncoder(tmp_path / "llama"), []

    def noted(spec, config):
        asked.append(config.start_layer)
        return ""

    monkeypatch.setattr("echo_embeddings.encoder.why_not", noted)
    names = usual_presets(encoder)
    configs = preset_configs(names, encoder)
    with pytest.raises(FileNotFoundError):
        compare(encoder, tmp_path / "gone.tsv", configs)
    assert sorted(asked) == sorted({config.start_layer for config in configs.values() if config.start_layer})


def test_a_yardstick_is_scored_beside(pairs, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "ab": 2, "abc": 3, "zzzz": 4}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu").save(
        str(tmp_path / "static")
    )
    seen = []
    scores = compare(
        FakeEncoder(),
        pairs,
        ["echo"],
        yardsticks=[str(tmp_path / "static")],
        show_progress=lambda *now: seen.append(now),
    )
    assert [(score.preset, score.dimension) for score in scores[1:]] == [(str(tmp_path / "static"), 8)]
    assert -100 <= scores[1].score <= 100
    assert seen[-1] == (str(tmp_path / "static"), 4, 4)
    with pytest.raises(ModelError, match="the yardstick '/not/there' could not be loaded"):
        compare(FakeEncoder(), pairs, ["echo"], yardsticks=["/not/there"])


def test_the_built_in_model(builtin_folder, pairs):
    scores = compare(EchoEncoder(on_truncate="ignore"), pairs, ["classical@64", "echo"], limit=2)
    assert [(score.preset, score.dimension) for score in scores] == [("classical@64", 64), ("echo", 576)]
    assert all(-100 <= score.score <= 100 for score in scores)
