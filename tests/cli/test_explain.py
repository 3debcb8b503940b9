"""``explain`` on a tiny model in a folder, and on the built-in model as it comes."""

import pytest

from tests.architectures import small_tokenizer, tiny
from tests.conftest import TEXTS


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny("llama").save_pretrained(folder)
    small_tokenizer(TEXTS).save_pretrained(folder)
    return folder


def test_explain_writes_a_page(run, tmp_path, model):
    done = run.result("explain", "The ferry leaves.", "--output", "page.html", "--model", model)
    assert done.stderr.strip().endswith("wrote page.html; open it in a browser")
    assert "The ferry leaves." in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert run("explain", "x", "-o", "page.html", "--model", model, code=1).startswith("error: page.html exists; add")
    run("explain", "Another.", "-o", "page.html", "--model", model, "--config", "late-echo", "--overwrite")
    assert "Another." in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_explain_says_what_is_wrong_before_the_model_is_loaded(run, tmp_path):
    (tmp_path / "folder.html").mkdir()
    for target, message in {
        "page.pdf": "page.pdf: the suffix '.pdf' is unknown; write to a .html file",
        "gone/page.html": "gone/page.html: there is no folder gone; make it first",
        "folder.html": "folder.html is no regular file; choose another output",
    }.items():
        assert run("explain", "x", "--output", target, "--model", "no/such-model", code=1) == f"error: {message}"


def test_explain_says_what_cannot_be_explained(run, tmp_path, model):
    for text, config, message in (
        ("  ", "echo", "the text is empty; give a sentence to explain"),
        ("x", "classical", "the text stands once in the template 'Write a paragraph: {text}'"),
        ("ferry " * 200, "echo", "the text has "),
    ):
        said = run("explain", text, "-o", "page.html", "--model", model, "--config", config, code=1)
        assert said.startswith(f"error: {message}")
    assert not (tmp_path / "page.html").exists()


def test_explain_works_on_the_built_in_model_with_its_default_config(run, tmp_path):
    run("explain", "The ferry leaves the island at dawn.", "-o", "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "SmolLM2-135M-Instruct" in page
    assert '"layers": [19, 20, 21, 22, 23, 24]' in page
