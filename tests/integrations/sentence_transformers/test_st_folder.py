"""One folder, every loader: EchoEncoder, ours, and sentence-transformers with its flag."""

import json
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder, ModelError, Template
from sentence_transformers_echo import EchoModule, from_encoder, load, save
from tests import processes
from tests.architectures import tiny
from tests.conftest import TEXTS, cosines

PROJECT = Path(__file__).parents[3] / "integrations" / "sentence-transformers"


@pytest.fixture(scope="module")
def encoder(tiny_encoder):
    return tiny_encoder(tie_word_embeddings=True).fit_transforms(TEXTS, ["standardize", "embed-filter"])


@pytest.fixture(scope="module")
def saved(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    save(encoder, folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of a saved model, to be spoilt."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def test_every_loader_gives_the_same_vectors(encoder, folder, texts):
    expected = encoder.encode_documents(texts)
    models = [load(folder), SentenceTransformer(str(folder), trust_remote_code=True)]
    for model in models:
        assert cosines(model.encode(texts), expected).min() > 0.99999
        assert model[0].echo_config == models[0][0].echo_config
    assert cosines(EchoEncoder(folder).encode_documents(texts), expected).min() > 0.99999


def test_what_the_encoder_saves_itself_is_loaded_too(encoder, saved, tmp_path, texts):
    encoder.save_pretrained(tmp_path)
    expected = encoder.encode_documents(texts)
    for model in (load(tmp_path), SentenceTransformer(str(tmp_path), trust_remote_code=True)):
        assert cosines(model.encode(texts), expected).min() > 0.99999
    for name in ("modules.json", "1_Pooling/config.json", "2_Normalize/config.json"):
        assert json.loads((tmp_path / name).read_text()) == json.loads((saved / name).read_text())


def test_a_pooling_that_sentence_transformers_lacks_is_loaded_by_every_loader(tiny_encoder, tmp_path, texts):
    config = EchoConfig(Template("Text: {text} In one word:", pool_tail=True), pooling="mean_and_last")
    encoder = tiny_encoder(config)
    expected = encoder.encode_documents(texts)
    save(encoder, tmp_path / "by the adapter")
    encoder.save_pretrained(tmp_path / "by the encoder")
    load(tmp_path / "by the adapter").save_pretrained(str(tmp_path / "again"))
    for folder in tmp_path.iterdir():
        assert json.loads((folder / "1_EchoPooling/config.json").read_text()) == {"pooling": "mean_and_last"}
        for model in (load(folder), SentenceTransformer(str(folder), trust_remote_code=True)):
            assert cosines(model.encode(texts), expected).min() > 0.99999
        assert cosines(EchoEncoder(folder).encode_documents(texts), expected).min() > 0.99999
    path = tmp_path / "again/1_EchoPooling/config.json"
    path.write_text('{"pooling": "max"}')
    with pytest.raises(ConfigError, match="pooling='max' is unknown; choose one of last, mean, mean_and_last, weigh"):
        SentenceTransformer(str(tmp_path / "again"), trust_remote_code=True)


def test_a_model_without_a_config_has_the_one_that_the_encoder_chooses(tmp_path, tokenizer):
    tiny("llama", vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    found = EchoModule.load(str(tmp_path)).echo_config
    rule = EchoConfig.preset("any-model")
    assert found == rule.replace(start_layer=4, exit_layer=5, final_norm=False)


def test_a_precision_is_asked_for_in_each_call(tiny_encoder, tmp_path):
    small = tiny_encoder().with_precision("float16")
    with pytest.raises(ConfigError, match=r"precision='float16'.*say model\.encode\(texts, precision='float16'\)"):
        from_encoder(small)
    save(small, tmp_path)  # a precision is not saved, so nothing is lost
    assert load(tmp_path).encode(["a"]).dtype == "float32"


def test_the_real_model_survives_the_round_trip(late_encoder, tmp_path, texts):
    save(late_encoder, tmp_path)
    expected = late_encoder.encode_documents(texts[:3])
    assert cosines(load(tmp_path).encode(texts[:3]), expected).min() > 0.99999
    assert len(load(tmp_path, model_kwargs={"dtype": "bfloat16"})[0].model.layers) == 24


def test_what_the_user_set_is_saved_and_found_again(encoder, tmp_path):
    model = from_encoder(encoder)
    model.prompts["fact"], model.default_prompt_name = "Check the fact: ", "fact"
    model.similarity_fn_name, model.truncate_dim, model.max_seq_length = "dot", 8, 100
    model.save_pretrained(str(tmp_path))
    for loaded in (load(tmp_path), SentenceTransformer(str(tmp_path), trust_remote_code=True)):
        assert loaded.prompts == model.prompts
        assert loaded.default_prompt_name == "fact"
        assert (loaded.similarity_fn_name, loaded.truncate_dim, loaded.max_seq_length) == ("dot", 8, 100)
    load(tmp_path).save_pretrained(str(tmp_path / "again"))
    assert "requirements" in json.loads((tmp_path / "again" / "config_sentence_transformers.json").read_text())


def test_dtype_is_the_one_asked_for(folder):
    assert load(folder)[0].model.dtype == torch.float32
    assert load(folder, model_kwargs={"dtype": torch.bfloat16})[0].model.dtype == torch.bfloat16


def test_without_the_flag_the_error_says_what_to_pass(folder):
    with pytest.raises(
        ValueError, match=r"'sentence_transformers_echo\.module\.EchoModule'(.|\n)*trust_remote_code=True"
    ):
        SentenceTransformer(str(folder))


def test_without_the_package_the_error_says_what_to_install(folder):
    path = folder / "config_sentence_transformers.json"
    config = json.loads(path.read_text())
    assert config["requirements"]["sentence-transformers-echo"]["specifier"] == ">=0.1"
    config["requirements"]["sentence-transformers-echo"]["specifier"] = ">=99"
    path.write_text(json.dumps(config))
    with pytest.raises(ImportError, match="sentence-transformers-echo>=99"):
        SentenceTransformer(str(folder), trust_remote_code=True)


@pytest.mark.parametrize("loader", [load, lambda path: SentenceTransformer(str(path), trust_remote_code=True)])
def test_a_newer_format_is_named(folder, loader):
    path = folder / "echo_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(ConfigError, match="was written by a newer echo-embeddings; update it, from a newer checkout: "):
        loader(folder)


def test_load_refuses_what_it_does_not_know(folder, tmp_path):
    with pytest.raises(ModelError, match=r"has no modules\.json.*from_encoder\(EchoEncoder\(path\)\)"):
        load(tmp_path)
    path = folder / "modules.json"
    path.write_text(path.read_text().replace("sentence_transformers_echo.module.EchoModule", "other.module.Module"))
    with pytest.raises(ModelError, match=r"'other\.module\.Module' that is neither .*trust_remote_code=True"):
        load(folder)
    with pytest.raises(ModelError, match="first module is a Pooling, not an EchoModule"):
        save(SentenceTransformer(modules=[Pooling(8)]), tmp_path)
    with pytest.raises(ValueError, match="backend='torch' only, not 'onnx'"):
        EchoModule.load(str(folder), backend="onnx")


def test_the_model_cards_snippet_runs(folder):
    card = (folder / "README.md").read_text()
    assert "from a checkout of echo-embeddings: pip install . ./integrations/sentence-transformers" in card
    snippet = card.split("```python\n")[1].split("```")[0]
    assert "trust_remote_code=True" in snippet
    code = snippet.replace("sentence_transformers_model_id", str(folder))
    done = processes.run(code)
    assert done.stdout.startswith("(3, 16)\n"), done.stderr


def test_a_config_in_fractions_is_saved_in_numbers(tiny_encoder, tmp_path):
    save(tiny_encoder("late-echo"), tmp_path)
    saved = EchoConfig.load(tmp_path)
    assert (saved.start_layer, saved.exit_layer, saved.final_norm) == (4, 5, False)


def test_importing_ours_imports_no_other_framework():
    code = """
        import sys, sentence_transformers_echo
        print(sorted({"langchain_core", "llama_index", "mteb", "faiss", "ray"} & set(sys.modules)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    assert done.stdout.strip() == "[]"


def test_the_wheel_holds_only_its_own_files(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(PROJECT)]
    subprocess.run(command, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    files = [path.relative_to(PROJECT / "src") for path in PROJECT.glob("src/**/*") if path.is_file()]
    package = {path.as_posix() for path in files if "__pycache__" not in path.parts}
    assert {name for name in names if ".dist-info/" not in name} == package
    assert "sentence_transformers_echo/py.typed" in package
    assert any(name.endswith("licenses/LICENSE") for name in names)
