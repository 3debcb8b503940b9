"""mteb on our encoders: its own mock tasks, its evaluators on data of one's own, resuming, its scores and ours."""

import json
import math
import shutil
from pathlib import Path
from xml.etree import ElementTree

import mteb as mteb_library
import numpy as np
import pytest
from mteb import mocks
from mteb.types import PromptType

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder
from echo_embeddings.errors import InputError, ModelError
from echo_embeddings.evaluation import compare, mteb, mteb_tasks, open_dataset, yardsticks
from echo_embeddings.evaluation.local import open_local
from echo_embeddings.evaluation.mteb_model import local_name
from echo_embeddings.evaluation.mteb_tasks import fresh, labels, local_task, tasks_of
from tests import killing
from tests.architectures import small_tokenizer, tiny


# mteb clusters so many drawn texts ten times; fewer will do here.
@pytest.fixture(autouse=True)
def smaller_clusterings(monkeypatch):
    monkeypatch.setattr(mteb_tasks._Clustering, "max_documents_per_cluster", 64)


# sklearn says of random vectors that some classes are never predicted.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")

# Written for these tests; no row of any data set.
SUBJECTS = ("The ferry", "A cat", "The baker", "My sister", "The museum", "An old dog")
ACTIONS = ("leaves the island at dawn", "sleeps on the warm stove", "sells bread and cake", "reads about distant stars")
SENTENCES = [f"{subject} {action}." for subject in SUBJECTS for action in ACTIONS]


def encoder(config="echo", name="llama", **changes):
    return EchoEncoder(tiny(name, **changes), config, tokenizer=small_tokenizer(SENTENCES))


@pytest.fixture(scope="module")
def tiny_encoder():
    return encoder()


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """One data set of each kind."""
    folder = tmp_path_factory.mktemp("data")
    turned = SENTENCES[5:] + SENTENCES[:5]
    both = list(zip(SENTENCES, turned, strict=True))
    header = "score\tsentence1\tsentence2\n"
    (folder / "sts.tsv").write_text(header + "".join(f"{n * 7 % 11 / 2}\t{a}\t{b}\n" for n, (a, b) in enumerate(both)))
    (folder / "same.tsv").write_text(header + "".join(f"{n % 3 % 2}\t{a}\t{b}\n" for n, (a, b) in enumerate(both)))
    (folder / "translations.tsv").write_text("".join(f"{a}\t{a.upper()}\n" for a in SENTENCES))
    labelled = [{"text": text, "label": SUBJECTS[n // 4]} for n, text in enumerate(SENTENCES)]
    lines(folder / "tags.jsonl", labelled)
    lines(folder / "subjects" / "train.jsonl", labelled)
    lines(folder / "subjects" / "test.jsonl", labelled[::3])
    lines(folder / "across" / "all.jsonl", [{"text": text, "label": n % 2} for n, text in enumerate(SENTENCES)])
    lines(
        folder / "answers.jsonl",
        [
            {"question": question, "answer": answer, "label": int(n % 4 == 1)}
            for question in ("who sells bread?", "when does the ferry leave?")
            for n, answer in enumerate(SENTENCES[:9])
        ],
    )
    lines(
        folder / "boats" / "corpus.jsonl",
        [{"_id": str(n), "title": "Boats" * (n % 2), "text": text} for n, text in enumerate(SENTENCES)],
    )
    queries = [{"_id": f"q{n}", "text": f"what about {text[4:20]}?"} for n, text in enumerate(SENTENCES[:6])]
    lines(folder / "boats" / "queries.jsonl", queries)
    (folder / "boats" / "qrels").mkdir()
    judged = [f"q{n}\t{document % 24}\t{gain}\n" for n in range(5) for gain, document in enumerate(range(n, n + 9, 4))]
    (folder / "boats" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged))
    return folder


KINDS = {
    "across": ("Classification", "accuracy"),
    "answers": ("Reranking", "map_at_1000"),
    "boats": ("Retrieval", "ndcg_at_10"),
    "same": ("PairClassification", "max_ap"),
    "sts": ("STS", "cosine_spearman"),
    "subjects": ("Classification", "accuracy"),
    "tags": ("Clustering", "v_measure"),
    "translations": ("BitextMining", "f1"),
}


class Counting:
    """An encoder that counts the texts which it embeds, and can be stopped at one of them."""

    def __init__(self, inner, stop_at=math.inf):
        self.inner, self.count, self.stop_at = inner, 0, stop_at

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def encode_documents(self, texts, **options):
        return self._encode(self.inner.encode_documents, texts, **options)

    def encode_queries(self, texts, **options):
        return self._encode(self.inner.encode_queries, texts, **options)

    def _encode(self, encode, texts, **options):
        self.count += len(texts)
        if self.count > self.stop_at:
            raise KeyboardInterrupt
        return encode(texts, **options)


# mteb copies similarities, which are tensors already, into tensors, whatever the model.
COPIED = pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")


# --- the model -------------------------------------------------------------------------------------------------------


@COPIED
def test_the_model_has_mtebs_interface_and_passes_mock_tasks_of_each_kind(tiny_encoder):
    model = mteb.MTEBEncoder(tiny_encoder)
    assert isinstance(model, mteb_library.EncoderProtocol)
    tasks = [
        mocks.MockSTSTask(),
        mocks.MockRetrievalTask(),
        mocks.MockRerankingTask(),
        mocks.MockPairClassificationTask(),
        mocks.MockMultilingualBitextMiningTask(),
        mocks.MockClassificationTask(),
        mocks.MockSummarizationTask(),  # it asks for the similarity of one text with one, as a number
    ]
    done = mteb_library.evaluate(model, tasks, cache=None, raise_error=True, show_progress_bar=False)
    assert [result.task_name for result in done.task_results] == [task.metadata.name for task in tasks]


@pytest.mark.slow
@COPIED
def test_the_model_passes_mtebs_own_check_of_models(tiny_encoder):
    checked = mteb_library.mock_run(mteb.MTEBEncoder(tiny_encoder))
    assert checked.all_passed, checked.to_markdown()
    assert sum(result is not None for result in checked.task_results.values()) >= 28


def test_queries_go_through_the_query_template_with_the_instruction_of_the_task():
    asking = EchoConfig(
        "Rewrite: {text}\nRewritten: {text}", query_template="{instruction}: {text}\nAgain: {text}", start_layer=0
    )
    both = encoder(asking)
    task = mocks.MockSTSTask().metadata

    def embedded(model, prompt_type):
        batches = [{"text": SENTENCES[:2]}, {"text": SENTENCES[1:3]}]
        return model.encode(batches, task_metadata=task, hf_split="test", hf_subset="default", prompt_type=prompt_type)

    texts = SENTENCES[:2] + SENTENCES[1:3]
    documents = both.encode_documents(texts)
    retrieve = both.encode_queries(texts, instruction="Retrieve semantically similar text.")
    greet = both.encode_queries(texts, instruction="Greet")
    plain = mteb.MTEBEncoder(both)
    assert plain.mteb_model_meta.use_instructions
    np.testing.assert_allclose(embedded(plain, PromptType.document), documents, atol=1e-6)
    np.testing.assert_allclose(embedded(plain, None), documents, atol=1e-6)
    np.testing.assert_allclose(embedded(plain, PromptType.query), retrieve, atol=1e-6)
    np.testing.assert_allclose(embedded(mteb.MTEBEncoder(both, role="query"), None), retrieve, atol=1e-6)
    for instructions in ("Greet", {"STS": "Greet"}, {"MockSTSTask": "Greet", "STS": "Leave"}):
        chosen = mteb.MTEBEncoder(both, instructions=instructions)
        np.testing.assert_allclose(embedded(chosen, PromptType.query), greet, atol=1e-6)
    other = mteb.MTEBEncoder(both, instructions={"Retrieval": "Greet"})
    np.testing.assert_allclose(embedded(other, PromptType.query), retrieve, atol=1e-6)
    assert not np.allclose(retrieve, greet, atol=1e-3)


def test_what_changes_a_score_changes_the_name_that_results_are_kept_by(tiny_encoder):
    def key(encoder, **options):
        meta = mteb.MTEBEncoder(encoder, **options).mteb_model_meta
        return meta.name, meta.revision, meta.experiment_name

    instructed = encoder(EchoConfig("{text}", query_template="{instruction} {text}"))
    keys = [
        key(tiny_encoder),
        key(encoder("classical")),
        key(encoder(EchoConfig.preset("echo").replace(max_length=7))),
        key(encoder(name="qwen2")),
        key(encoder(vocab_size=98)),
        key(EchoEncoder(tiny("llama").bfloat16(), "echo", tokenizer=small_tokenizer(SENTENCES))),
        key(tiny_encoder, role="query"),
        key(instructed),
        key(instructed, instructions="Greet"),
        key(instructed, instructions={"STS": "Greet"}),
        key(EchoEncoder(dtype="float32", device="cpu")),
        key(EchoEncoder(dtype="int8", device="cpu")),
        key(EchoEncoder(dtype="float32", device="cpu", on_truncate="split")),
        key(EchoEncoder(dtype="float32", device="cpu", precision="float16")),
        key(EchoEncoder(dtype="float32", device="cpu", dimensions=256)),
    ]
    assert len(set(keys)) == len(keys)
    assert key(encoder()) == keys[0]
    assert keys[-1][0] == "echo-embeddings/SmolLM2-135M-Instruct"
    assert keys[-1][2].startswith("config_default@256__dtype_float32__fingerprint_")


def test_a_model_by_its_name_as_mtebs_registry_makes_it(tiny_encoder, tmp_path):
    tiny_encoder.save_pretrained(tmp_path / "saved")
    model = mteb.MTEBEncoder(str(tmp_path / "saved"), device="cpu", config="classical")
    assert model.mteb_model_meta.name == "local/saved"
    assert model.model.config == EchoConfig.preset("classical")
    pinned = mteb.MTEBEncoder(str(tmp_path / "saved"), "v2", config="classical")
    assert pinned.model.options.model_kwargs == {"revision": "v2"}


@pytest.mark.parametrize("precision", ["float16", "int8", "ubinary"])
def test_vectors_of_a_smaller_precision_are_scored_as_what_they_stand_for(tiny_encoder, data, precision):
    """As bytes they would have no cosines: products of int8 overflow, and bits are packed."""
    small = tiny_encoder.fit_ranges(SENTENCES).with_precision(precision)
    pairs, task = open_dataset(data / "sts.tsv"), mocks.MockSTSTask().metadata
    expected = small.restored(small.encode_documents(pairs.texts[0]))
    found = mteb.MTEBEncoder(small).encode([{"text": pairs.texts[0]}], task_metadata=task, hf_split="", hf_subset="")
    np.testing.assert_array_equal(found, expected)
    (score,) = compare(small, pairs, {"saved": small.config})
    assert score.score == pytest.approx(pairs.score(expected, expected[:0]), abs=0.01)


def test_what_the_model_cannot_do_is_said(tiny_encoder):
    with pytest.raises(ConfigError, match="role='both' is unknown; give 'document' or 'query'"):
        mteb.MTEBEncoder(tiny_encoder, role="both")
    with pytest.raises(ConfigError, match=r"instructions='Greet' were given, but the query template .* has no"):
        mteb.MTEBEncoder(tiny_encoder, instructions="Greet")
    with pytest.raises(ConfigError, match="device: the encoder is made already"):
        mteb.MTEBEncoder(tiny_encoder, device="cpu")
    with pytest.raises(ConfigError, match="precision='int8': vectors are float32 here"):
        mteb.MTEBEncoder(tiny_encoder).encode([], task_metadata=None, hf_split="", hf_subset="", precision="int8")


# --- data of one's own -----------------------------------------------------------------------------------------------


def test_every_kind_of_local_data_is_scored_twice_alike(tiny_encoder, data):
    first = mteb.evaluate(tiny_encoder, data)
    assert {score.task: (score.kind, score.metric) for score in first.scores} == KINDS
    assert first.models == [f"{tiny_encoder.model_name}, echo"]
    assert all(0 <= abs(score.score) <= 100 for score in first.scores)
    again = mteb.evaluate(tiny_encoder, [data / "subjects", data / "across", data / "tags.jsonl", data / "boats"])
    scores = [{score.task: score.score for score in one.scores} for one in (first, again)]
    assert len(scores[1]) == 4
    # In another order, with texts in other batches: 1e-6 of a score from 0 to 1.
    assert scores[1] == pytest.approx({task: scores[0][task] for task in scores[1]}, abs=1e-4)
    means = first.means(first.models[0])
    assert means["STS"] == scores[0]["sts"]
    assert means["Classification"] == pytest.approx((scores[0]["across"] + scores[0]["subjects"]) / 2)
    assert means["tasks"] == pytest.approx(np.mean(list(scores[0].values())))
    assert means["kinds"] == pytest.approx(np.mean([means[kind] for kind in {kind for kind, _ in KINDS.values()}]))


def test_metrics_of_compare_are_mtebs(tiny_encoder, data):
    paths = {"sts": data / "sts.tsv", "boats": data / "boats"}
    found = {score.task: score.score for score in mteb.evaluate(tiny_encoder, list(paths.values())).scores}
    ours = {}
    for name, path in paths.items():
        documents, queries = (dataset := open_dataset(path)).texts
        ours[name] = dataset.score(tiny_encoder.encode_documents(documents), tiny_encoder.encode_queries(queries))
    assert found["sts"] == pytest.approx(ours["sts"], abs=1e-4)  # 1e-6 of a score from 0 to 1
    # Scores of retrieval have five digits in mteb; before, they are what pytrec_eval says (test_metrics.py).
    assert found["boats"] == pytest.approx(100 * round(ours["boats"] / 100, 5), abs=1e-6)


def test_tasks_are_named_by_paths_by_mtebs_names_and_by_objects(data):
    task = mocks.MockSTSTask()
    found = tasks_of([data / "sts.tsv", str(data / "boats"), "STSBenchmark", task, data / "sts.tsv"])
    assert list(labels(found).values()) == ["sts", "boats", "STSBenchmark", "MockSTSTask"]
    with pytest.raises(InputError, match=r"tasks=\[\] names none"):
        tasks_of([])
    for empty in ("", [""]):
        with pytest.raises(InputError, match="the name of a task is empty; give a path, or the name of a task or a"):
            tasks_of(empty)


@pytest.mark.slow
def test_benchmarks_of_mteb_by_their_names_and_what_is_like_a_wrong_name():
    assert len(tasks_of("MTEB(eng, v2)")) == 41
    with pytest.raises(InputError, match="no task or benchmark of mteb with this name; did you mean 'STSBenchmark'"):
        tasks_of("STSBenchmrk")
    with pytest.raises(InputError, match=r"did you mean 'MTEB\(eng, v2\)'"):
        tasks_of("MTEB(eng,v2)")


def test_a_task_whose_data_cannot_be_had_does_not_stop_the_others(tiny_encoder, data, tmp_path):
    shutil.copyfile(data / "sts.tsv", tmp_path / "gone.tsv")
    gone = local_task(open_local(tmp_path / "gone.tsv"))
    gone.load_data = lambda **_: (_ for _ in ()).throw(ConnectionError("no network"))
    found = mteb.evaluate(tiny_encoder, [gone, data / "sts.tsv"])
    assert [score.task for score in found.scores] == ["sts"]
    assert found.failed == {
        "gone": "its data (local/gone) could not be fetched: no network. Without a hub, give a file or folder"
    }
    with pytest.raises(InputError, match="no task could be run:\ngone: its data"):
        mteb.evaluate(tiny_encoder, gone)


def test_data_sets_of_the_same_name_keep_their_scores_apart(tiny_encoder, data, tmp_path):
    rows = (data / "sts.tsv").read_text().splitlines(keepends=True)
    for name, kept in (("a/test.tsv", rows), ("b/test.tsv", rows[:9]), ("b/test.csv", [])):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("".join(kept) or "score,sentence1,sentence2\n3,a,b\n2,c,d\n")
    found = mteb.evaluate(tiny_encoder, tmp_path)
    assert [score.task for score in found.scores] == ["a/test.tsv", "test.csv", "b/test.tsv"]
    assert len({score.score for score in found.scores}) == 3
    assert [result.get_score() * 100 for result in found.results.values()] == pytest.approx(
        [score.score for score in found.scores], abs=1e-3
    )
    of_mteb = tasks_of("STSBenchmark")[0]
    (tmp_path / "STSBenchmark.tsv").write_text("".join(rows))
    own = local_task(open_local(tmp_path / "STSBenchmark.tsv"))
    assert sorted(labels([of_mteb, own]).values()) == ["STSBenchmark", "STSBenchmark.tsv"]


def test_a_task_with_pictures_does_not_stop_the_others(tiny_encoder, data):
    found = mteb.evaluate(tiny_encoder, ["CIFAR10", data / "sts.tsv"])
    assert [score.task for score in found.scores] == ["sts"]
    assert found.failed == {"CIFAR10": "it is about more than text (image), and these models read text only"}


def test_a_score_that_is_not_defined_is_none(tiny_encoder, tmp_path):
    (tmp_path / "same.tsv").write_text("score\tsentence1\tsentence2\n1\ta\ta\n2\ta\ta\n3\ta\ta\n")
    found = mteb.evaluate(tiny_encoder, tmp_path, output=tmp_path / "out")
    assert [score.score for score in found.scores] == [None]
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["scores"][0]["score"] is None


def test_names_that_a_picture_a_path_or_json_cannot_hold(tiny_encoder, data, tmp_path):
    names = ("a $x_{$ b", "n" * 230, "語 \udcff\x01")
    for number, name in enumerate(names):
        rows = (data / "sts.tsv").read_text().splitlines(keepends=True)
        (tmp_path / f"{name}.tsv").write_text("".join(rows[: 9 + number]))
    found = mteb.evaluate(tiny_encoder, tmp_path, output=tmp_path / "out")
    assert {score.task for score in found.scores} == {*names[:2], "語 \ufffd\ufffd"}
    again = mteb.evaluate(tiny_encoder, tmp_path, output=tmp_path / "out")  # which lies among the data
    assert again.scores == found.scores
    ElementTree.parse(tmp_path / "out" / "scores.svg")
    assert len(json.loads((tmp_path / "out" / "scores.json").read_text())["scores"]) == 3
    assert [local_name(path) for path in ("a b/c d", "/", "n" * 200)] == [
        "local/c_d",
        "local/model",
        f"local/{'n' * 100}",
    ]
    assert local_name(".") == f"local/{Path.cwd().name}"


# --- the folder of results -------------------------------------------------------------------------------------------


def test_what_is_done_is_not_computed_again_and_other_models_and_data_are(tiny_encoder, data, tmp_path):
    tasks = [data / "sts.tsv", data / "boats"]
    counting = Counting(tiny_encoder)
    first = mteb.evaluate(counting, tasks, output=tmp_path)
    report = json.loads((tmp_path / "scores.json").read_text())
    picture = (tmp_path / "scores.svg").read_bytes()
    assert counting.count > 0
    done, counting.count = counting.count, 0
    again = mteb.evaluate(counting, tasks, output=tmp_path)
    assert counting.count == 0
    assert again.scores == first.scores
    assert json.loads((tmp_path / "scores.json").read_text()) == report
    assert (tmp_path / "scores.svg").read_bytes() == picture
    assert [score["score"] for score in report["scores"]] == [score.score for score in first.scores]
    other = Counting(encoder("classical"))
    assert mteb.evaluate(other, tasks, output=tmp_path).scores[0].score != first.scores[0].score
    assert other.count == done
    changed = tmp_path / "sts.tsv"
    changed.write_text((data / "sts.tsv").read_text().replace("ferry", "boat"))
    assert mteb.evaluate(counting, changed, output=tmp_path).scores[0].score != first.scores[0].score
    assert counting.count > 0


def test_a_run_that_was_stopped_goes_on_and_gives_the_same_scores(tiny_encoder, data, tmp_path, monkeypatch):
    monkeypatch.setattr("echo_embeddings.evaluation.mteb_model._KEPT_TOGETHER", 5)
    tasks = [data / "across", data / "boats", data / "answers.jsonl"]
    whole = Counting(tiny_encoder)
    expected = mteb.evaluate(whole, tasks, output=tmp_path / "whole")
    stopped = Counting(tiny_encoder, stop_at=43)  # in the middle of the second task
    with pytest.raises(KeyboardInterrupt):
        mteb.evaluate(stopped, tasks, output=tmp_path / "stopped")
    kept = list((tmp_path / "stopped").rglob("*.vectors/*.npy"))
    assert kept
    left = kept[0].with_name(f".{kept[0].name}.0123abcd.part")
    left.write_bytes(b"")
    going_on = Counting(tiny_encoder)
    found = mteb.evaluate(going_on, tasks, output=tmp_path / "stopped")
    assert [score.score for score in found.scores] == [score.score for score in expected.scores]
    assert stopped.count - 5 + going_on.count == whole.count  # the 5 that it stopped in
    assert not list((tmp_path / "stopped").rglob("*.vectors"))
    assert not left.exists()


def test_vectors_that_somebody_damaged_are_computed_anew(tiny_encoder, data, tmp_path, monkeypatch):
    monkeypatch.setattr("echo_embeddings.evaluation.mteb_model._KEPT_TOGETHER", 5)
    expected = mteb.evaluate(tiny_encoder, data / "boats")
    with pytest.raises(KeyboardInterrupt):
        mteb.evaluate(Counting(tiny_encoder, stop_at=21), data / "boats", output=tmp_path)
    kept = sorted(tmp_path.rglob("*.vectors/*.npy"))
    assert len(kept) == 4
    kept[0].write_bytes(b"")
    kept[1].write_bytes(kept[1].read_bytes()[:-8])
    np.save(kept[2], np.zeros((1, 32), np.float32))
    found = mteb.evaluate(tiny_encoder, data / "boats", output=tmp_path)
    assert found.scores[0].score == expected.scores[0].score


@pytest.mark.slow
def test_what_a_kill_leaves_goes_on_and_gives_the_same_scores(tiny_encoder, data, tmp_path):
    tasks, output = [str(data / "sts.tsv"), str(data / "boats")], tmp_path / "killed"
    expected = mteb.evaluate(tiny_encoder, tasks, output=tmp_path / "whole")
    output.mkdir()
    script = (
        "from tests.evaluation.test_mteb import encoder\n"
        "from echo_embeddings.evaluation import mteb, mteb_model\n"
        "mteb_model._KEPT_TOGETHER = 5\n"
        f"mteb.evaluate(encoder(), {tasks!r}, output={str(output)!r})\n"
    )
    moments = killing.moments(script, output, tmp_path / "moments")
    assert len(moments) > 10
    assert any(list(moment.rglob("*.vectors")) for moment in moments)  # in the middle of a task
    for moment in moments[::3]:
        going_on = Counting(tiny_encoder)
        found = mteb.evaluate(going_on, tasks, output=moment)
        assert [score.score for score in found.scores] == [score.score for score in expected.scores]
    assert going_on.count == 0  # the last one was done


def test_a_damaged_result_is_computed_anew_and_a_second_process_waits_its_turn(tiny_encoder, data, tmp_path):
    first = mteb.evaluate(tiny_encoder, data / "sts.tsv", output=tmp_path / "out")
    (result,) = (tmp_path / "out").rglob("sts-*.json")
    result.write_text(result.read_text()[:100])
    (tmp_path / "out" / ".saving-left").mkdir()
    again = mteb.evaluate(tiny_encoder, data / "sts.tsv", output=tmp_path / "out")
    assert again.scores[0].score == first.scores[0].score
    assert not list((tmp_path / "out").glob(".saving-*"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # beside it nobody may be allowed to write

    def second(*_):
        mteb.evaluate(tiny_encoder, data / "sts.tsv", output=tmp_path / "out")

    with pytest.raises(InputError, match="out is being written by process"):
        mteb.evaluate(tiny_encoder, data / "boats", output=tmp_path / "out", show_progress=second)
    with pytest.raises(InputError, match="scores.json is a file; results need a folder"):
        mteb.evaluate(tiny_encoder, data / "sts.tsv", output=tmp_path / "out" / "scores.json")


def test_a_task_begins_with_the_same_random_numbers_whatever_ran_before(data):
    task = tasks_of(data / "tags.jsonl")[0]
    drawn = fresh(task)
    before = drawn.rng_state.random()
    assert fresh(task).rng_state.random() == before


def test_progress_says_which_task_and_how_far(tiny_encoder, data, capsys):
    seen = []
    tasks = [data / "boats", data / "translations.tsv"]
    mteb.evaluate(tiny_encoder, tasks, show_progress=lambda *now: seen.append(now))
    labels = list(dict.fromkeys(label for label, _, _ in seen))
    assert labels == ["boats (1 of 2): queries", "boats (1 of 2): documents", "translations (2 of 2): documents"]
    for name in labels:
        done = [(done, total) for label, done, total in seen if label == name]
        assert done[0][0] == 0
        assert done[-1][0] == done[-1][1] > 0
    assert capsys.readouterr().err == ""


# --- yardsticks ------------------------------------------------------------------------------------------------------


def sentence_transformer(folder, prompts=None):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    body = folder.with_name(folder.name + "-body")
    tiny("llama").save_pretrained(body)
    small_tokenizer(SENTENCES).save_pretrained(body)
    words = Transformer(str(body))
    model = SentenceTransformer(modules=[words, Pooling(words.get_embedding_dimension())], prompts=prompts)
    model.save(str(folder))
    return model


def test_a_yardstick_has_the_scores_of_its_vectors_and_a_name_of_its_own(tiny_encoder, data, tmp_path):
    model = sentence_transformer(tmp_path / "plain")
    sentence_transformer(tmp_path / "prompted" / "plain", {"query": "q: ", "document": "d: "})
    names = [str(tmp_path / "plain"), str(tmp_path / "prompted" / "plain")]
    found = mteb.evaluate(tiny_encoder, data / "sts.tsv", yardsticks=names, output=tmp_path / "out")
    assert found.models[1:] == names
    pairs = open_dataset(data / "sts.tsv")
    vectors = model.encode(pairs.texts[0], normalize_embeddings=True)
    assert found.scores[1].score == pytest.approx(pairs.score(vectors, vectors[:0]), abs=1e-4)
    weights = [(found.about["models"][name]["name"], found.about["models"][name]["weights"]) for name in names]
    assert weights[0][0] == weights[1][0] == "local/plain"
    assert weights[0][1] != weights[1][1]
    counting = Counting(tiny_encoder)
    (tmp_path / "empty").mkdir()
    for name, why in {
        str(tmp_path / "gone"): "there is no such folder",
        str(tmp_path / "empty"): r"the folder has neither modules\.json nor config\.json",
        "no/such-model": "it is no folder, and without a hub it is not in the cache",
    }.items():
        with pytest.raises(ModelError, match=f"the yardstick '{name}' could not be loaded: {why}; give a folder of"):
            mteb.evaluate(counting, data / "sts.tsv", yardsticks=[name])
    assert counting.count == 0
    with pytest.raises(TypeError, match=r"yardsticks must be a list of names such as \['a'\]"):
        mteb.evaluate(tiny_encoder, data / "sts.tsv", yardsticks="a")


def test_a_yardstick_whose_tokenizer_or_pooling_changed_is_another_one(tmp_path):
    sentence_transformer(tmp_path / "plain")

    def weights():
        return yardsticks.Yardstick(str(tmp_path / "plain")).mteb_model_meta.revision

    first = weights()
    assert weights() == first
    (pooling,) = tmp_path.glob("plain/*_Pooling/config.json")
    content = pooling.read_text()
    settings = json.loads(content)
    changed = {"pooling_mode": "cls"} if "pooling_mode" in settings else {"pooling_mode_cls_token": True}
    pooling.write_text(json.dumps(settings | changed))
    second = weights()
    pooling.write_text(content)
    tokenizer = tmp_path / "plain" / "tokenizer.json"
    written = json.loads(tokenizer.read_text())
    tokenizer.write_text(json.dumps(written | {"normalizer": {"type": "Lowercase"}}))
    assert len({first, second, weights()}) == 3
    (tmp_path / "plain" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="the yardstick '.*plain' could not be loaded: "):
        weights()
