"""What a file or folder holds is seen from its name and its first rows, and what cannot be used is said at once."""

import json

import pytest

from echo_embeddings.errors import InputError
from echo_embeddings.evaluation.local import Labelled, Ranking, find_local, open_local


def rows(path, *objects):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in objects), encoding="utf-8")
    return path


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def test_pairs_are_similarity_unless_every_score_is_0_or_1(tmp_path):
    similar = open_local(text(tmp_path / "sts.tsv", "score\tsentence1\tsentence2\n0\ta\tb\n1\tc\td\n2.5\te\tf\n"))
    assert (similar.kind, similar.name) == ("STS", "sts")
    assert similar.read() == {"score": [0.0, 1.0, 2.5], "sentence1": ["a", "c", "e"], "sentence2": ["b", "d", "f"]}
    same = open_local(text(tmp_path / "same.csv", '"score","sentence1","sentence2"\n0,"a, b",b\n1,c,d\n'))
    assert same.kind == "PairClassification"
    assert same.read()["sentence1"] == ["a, b", "c"]


def test_translations_have_two_columns_with_or_without_their_names(tmp_path):
    plain = open_local(text(tmp_path / "plain.tsv", "ein Haus\ta house\n\nein Boot\ta boat\n"))
    named = open_local(text(tmp_path / "named.csv", "sentence2,sentence1\na house,ein Haus\na boat,ein Boot\n"))
    assert plain.kind == named.kind == "BitextMining"
    assert plain.read() == named.read() == {"sentence1": ["ein Haus", "ein Boot"], "sentence2": ["a house", "a boat"]}


def test_retrieval_is_a_folder_as_compare_reads_it(tmp_path):
    rows(tmp_path / "boats" / "corpus.jsonl", {"_id": "1", "title": "Ferry", "text": "leaves"})
    rows(tmp_path / "boats" / "queries.jsonl", {"_id": "q", "text": "when?"})
    text(tmp_path / "boats" / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore\nq\t1\t1\n")
    found = open_local(tmp_path / "boats")
    assert (found.kind, found.name) == ("Retrieval", "boats")
    assert found.read().documents == {"1": "Ferry leaves"}


def test_candidates_stand_one_a_line_or_in_lists_and_what_cannot_be_ranked_is_left_out(tmp_path):
    one = open_local(
        rows(
            tmp_path / "one.jsonl",
            {"question": "q", "answer": "wrong", "label": 0},
            {"question": "only wrong", "answer": "wrong", "label": 0},
            {"question": "q", "answer": "right", "label": 1},
        )
    )
    assert (one.kind, one.read()) == ("Reranking", [Ranking("q", ["wrong", "right"], [0, 1])])
    lists = open_local(
        rows(
            tmp_path / "lists.jsonl",
            {"query": "q", "positive": ["right"], "negative": ["wrong"]},
            {"query": "only right", "positive": ["right"], "negative": []},
        )
    )
    assert (lists.kind, lists.read()) == ("Reranking", [Ranking("q", ["right", "wrong"], [1, 0])])


def test_labelled_texts_are_clustering_in_a_file_and_classification_in_a_folder(tmp_path):
    labelled = [{"text": "b", "label": "boat"}, {"text": "a", "label": "animal"}]
    file = open_local(rows(tmp_path / "tags.jsonl", *labelled))
    assert (file.kind, file.read()) == ("Clustering", Labelled(["b", "a"], [1, 0]))
    alone = open_local(rows(tmp_path / "alone" / "all.jsonl", *labelled).parent)
    assert (alone.kind, alone.read()) == ("Classification", {"test": Labelled(["b", "a"], [1, 0])})
    rows(tmp_path / "two" / "train.jsonl", *labelled, {"text": "c", "label": 0})
    rows(tmp_path / "two" / "val.jsonl", *labelled)
    two = open_local(tmp_path / "two")
    assert two.read() == {"train": Labelled(["b", "a", "c"], [2, 1, 0]), "test": Labelled(["b", "a"], [2, 1])}
    rows(tmp_path / "two" / "test.jsonl", *reversed(labelled))
    assert open_local(tmp_path / "two").read()["test"].texts == ["a", "b"]  # before val.jsonl


def test_a_folder_of_data_sets_stands_for_all_that_are_in_it(tmp_path):
    pairs = "score\tsentence1\tsentence2\n0\ta\tb\n3\tc\td\n"
    text(tmp_path / "sts" / "en.tsv", pairs)
    text(tmp_path / "sts" / "de.tsv", pairs.replace("d\n", "e\n"))
    text(tmp_path / "README.md", "about")
    text(tmp_path / ".hidden.tsv", "nothing")
    rows(tmp_path / "tags" / "all.jsonl", {"text": "b", "label": 1}, {"text": "a", "label": 0})
    assert [found.name for found in find_local(tmp_path)] == ["de", "en", "tags"]
    assert [found.name for found in find_local(tmp_path / "sts" / "en.tsv")] == ["en"]


def test_the_name_of_a_task_changes_with_what_is_read_and_with_nothing_else(tmp_path):
    pairs = "score\tsentence1\tsentence2\n0\ta\tb\n3\tc\td\n"
    first = open_local(text(tmp_path / "a" / "my pairs.tsv", pairs)).task_name
    assert first.startswith("my_pairs-")
    assert open_local(text(tmp_path / "b" / "my pairs.tsv", pairs)).task_name == first
    assert open_local(text(tmp_path / "a" / "my pairs.tsv", pairs.replace("c\t", "C\t"))).task_name != first


def test_a_folder_that_links_to_itself_and_one_with_results_in_it_end(tmp_path):
    text(tmp_path / "sts.tsv", "score\tsentence1\tsentence2\n0\ta\tb\n3\tc\td\n")
    (tmp_path / "again").symlink_to(tmp_path)
    # Where the results of evaluate lie among the data.
    rows(tmp_path / "evaluation" / "results" / "model" / "run_settings.jsonl", {"task_name": "sts"})
    assert [found.name for found in find_local(tmp_path)] == ["sts"]


def test_names_that_files_of_results_cannot_have(tmp_path):
    pairs = "score\tsentence1\tsentence2\n0\ta\tb\n3\tc\td\n"
    for name in ("n" * 230, "語" * 80):
        long = open_local(text(tmp_path / f"{name}.tsv", pairs))
        assert long.name == name
        assert 100 < len(long.task_name.encode()) < 110
    foreign = open_local(text(tmp_path / "a\udcff\x1b.tsv", pairs))
    assert foreign.name == "a\ufffd\ufffd"
    assert foreign.task_name.startswith("a__-")


def test_data_that_changed_after_they_were_named_are_not_read_under_that_name(tmp_path):
    pairs = "score\tsentence1\tsentence2\n0\ta\tb\n3\tc\td\n"
    found = open_local(text(tmp_path / "sts.tsv", pairs))
    text(tmp_path / "sts.tsv", pairs.replace("3\tc", "3\tC"))
    with pytest.raises(InputError, match=r"sts\.tsv has changed since this run began; run the same again"):
        found.read()
    (tmp_path / "sts.tsv").unlink()
    with pytest.raises(InputError, match=r"sts\.tsv can no longer be read: No such file"):
        found.read()


def test_half_a_character_is_read_as_an_encoder_reads_it(tmp_path):
    one = {"query": "q\ud83d", "positive": ["a\ud83d"], "negative": ["b"]}
    assert open_local(rows(tmp_path / "x.jsonl", one)).read() == [Ranking("q\ufffd", ["a\ufffd", "b"], [1, 0])]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "x.tsv",
            "a\tb\tc\n",
            r"x.tsv begins with the line 'a\\tb\\tc', and so it is none of what can be read:",
        ),
        ("x.csv", "a,b\n", "x.csv begins with the line 'a,b', and so it is none"),
        ("x.txt", "a", "x.txt has the suffix '.txt', and so it is none"),
        ("x.jsonl", "", "x.jsonl is empty"),
        ("x.tsv", "", "x.tsv is empty"),
        ("x.jsonl", '{"text": "a", "text": "b", "label": 1}\n', "x.jsonl:1: .*an object has the key 'text' twice"),
        ("x.jsonl", "[1]\n", r"x.jsonl:1: this line is no object, but '\[1\]'"),
        ("x.jsonl", "{\n", "x.jsonl:1: this line is no JSON"),
        ("x.jsonl", '{"a": 1}\n', "x.jsonl has the fields a in its first line, and so it is none"),
        (
            "x.jsonl",
            '{"text": "a", "label": 1}\n{"text": "a"}\n',
            "x.jsonl:2: this object has no 'label'; it wants",
        ),
        ("x.jsonl", '{"text": "a", "label": 1}\n' * 2, "x.jsonl has 2 texts, and not two different labels"),
        ("x.jsonl", '{"text": 5, "label": 1}\n', "x.jsonl:1: text is 5, not a string"),
        ("x.jsonl", '{"text": "a", "label": 1.5}\n', "x.jsonl:1: label is 1.5, not a string or a whole number"),
        (
            "x.jsonl",
            '{"question": "q", "answer": "a", "label": 2}\n',
            "x.jsonl:1: label is 2; 1 is a right answer, 0 a wrong one",
        ),
        (
            "x.jsonl",
            '{"question": "q", "answer": "a", "label": 1}\n',
            "x.jsonl has 1 questions, and none with a right and a wrong candidate",
        ),
        (
            "x.jsonl",
            '{"query": "q", "positive": "a", "negative": []}\n',
            "x.jsonl:1: positive is 'a', not a list of strings",
        ),
        ("x.tsv", "a\tb\nc\n", "x.tsv:2: this row has 1 cells; a translation has 2"),
        ("x.tsv", "a\tb\n", "x.tsv has 1 translations; the right one is sought among at least 2"),
        ("x.tsv", "score\tsentence1\tsentence2\n1\ta\tb\n", "x.tsv has 1 pairs, and not two different scores"),
        ("x.tsv", "score\tsentence1\tsentence2\nx\ta\tb\n", "x.tsv:2: score is 'x', not a number"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_line(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message):
        open_local(text(tmp_path / name, content))


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no data set. What can be read:\n  retrieval"):
        find_local(tmp_path)
    with pytest.raises(InputError, match="there is no file or folder .*gone"):
        find_local(tmp_path / "gone")
    taught = rows(tmp_path / "x" / "train.jsonl", {"text": "a", "label": 0}, {"text": "b", "label": 1}).parent
    with pytest.raises(InputError, match=r"x has train.jsonl, but neither test.jsonl nor val.jsonl to test on"):
        find_local(tmp_path)
    rows(taught / "test.jsonl", {"text": "a", "label": 0}, {"text": "b", "label": 2})
    with pytest.raises(InputError, match=r"test.jsonl has the label '2', which train.jsonl has not"):
        find_local(tmp_path)
    rows(taught / "queries.jsonl", {"_id": "a", "text": "b"})
    with pytest.raises(InputError, match=r"x has no corpus.jsonl; BEIR's layout is"):
        find_local(tmp_path)
