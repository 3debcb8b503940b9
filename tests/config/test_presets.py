"""The presets as data; and the packaged adapter, which comes with the config that was trained with it and no other."""

import inspect
import json
import pickle
import re
import shutil
import sys
import textwrap

import numpy as np
import pytest
from transformers import AutoTokenizer

from echo_embeddings import ConfigError, EchoConfig, EchoEncoder, LeftOutWarning, Template
from echo_embeddings.config import presets
from echo_embeddings.engine.runtime import Runtime
from echo_embeddings.model.loading import LoadedModel
from tests import processes
from tests.architectures import tiny
from tests.conftest import TEXTS, cosines

ZERO_SHOT = EchoConfig.preset("zero-shot")


@pytest.fixture
def texts():
    """Two are enough to tell weights apart; each of these tests loads its own."""
    return TEXTS[:2]


# --- presets are data ------------------------------------------------------------------------------------------------


def docstring_list():
    """The list of presets as it stands in the docstring of ``EchoConfig.preset``."""
    rows = [f"- ``{preset.name}``: {preset.about}" for preset in presets.table()]
    return "\n".join(textwrap.fill(row, 112, subsequent_indent="  ") for row in rows)


def test_the_list_in_the_docstring_is_made_from_the_files():
    assert docstring_list() in inspect.getdoc(EchoConfig.preset), f"put this into the docstring:\n{docstring_list()}"


def test_every_preset_says_what_it_does_and_where_it_comes_from():
    assert presets.names()[:5] == ("default", "zero-shot", "any-model", "echo", "late-echo")
    assert set(presets.names()) == {path.stem for path in presets.PRESETS_FOLDER.glob("*.json")}
    for preset in presets.table():
        assert re.fullmatch(r"[a-z-]+", preset.name)
        assert preset.about.endswith(".")
        assert preset.source
        content = json.loads((presets.PRESETS_FOLDER / f"{preset.name}.json").read_text())
        assert set(content) <= {"order", "about", "source", "note", "config"}
        assert ("config" in content) != (presets.PRESETS_FOLDER / preset.name).is_dir()
    folders = {path.name for path in presets.PRESETS_FOLDER.iterdir() if path.is_dir()}
    assert folders == {"default", "zero-shot", "any-model", "models"}


def test_the_table_for_the_documentation_has_a_row_for_each_preset():
    header, rule, *rows = presets.markdown_table().splitlines()
    assert header == "| preset | what it does | source |"
    assert rule.count("|") == 4
    assert [row.split("`")[1] for row in rows] == list(presets.names())
    assert all(row.count("|") == 4 for row in rows)


def test_a_damaged_preset_names_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(presets, "PRESETS_FOLDER", tmp_path)
    (tmp_path / "mine.json").write_text('{"order": 1, "about": "A.", "source": "ours", "config": {"format": 2}}')
    with pytest.raises(ConfigError, match=r"mine\.json cannot be read: it has no field 'template'"):
        EchoConfig.preset("mine")
    (tmp_path / "mine.json").write_text('{"order": 1, "about": "A.", "source": "ours", "config": []}')
    with pytest.raises(ConfigError, match=r"mine\.json has no format number"):
        EchoConfig.preset("mine")


@pytest.mark.parametrize("name", [None, 3, [], "../config/presets/echo", "echo.json", ""])
def test_only_names_are_presets(name):
    with pytest.raises(ConfigError, match="there is no preset .*; choose one of default, zero-shot, any-model, echo"):
        EchoConfig.preset(name)


def test_templates_say_what_their_papers_say():
    copies = {name: tuple(t.copies for t in EchoConfig.preset(name).templates) for name in presets.names()}
    assert copies == {
        **dict.fromkeys(("default", "zero-shot", "any-model", "echo", "late-echo"), (2, 2)),
        **dict.fromkeys(("echo-finetuned", "compute-matched"), (2, 2)),
        **dict.fromkeys(("classical", "classical-last", "classical-weighted"), (1, 1)),
        **dict.fromkeys(("prompt-eol", "pretended-cot", "knowledge-enhancement", "kv-embedding-prompt"), (1, 1)),
    }
    assert EchoConfig.preset("classical").templates[0] == Template.repeat(1)
    assert EchoConfig.preset("echo").templates[0] == Template.repeat(2)
    document, query = EchoConfig.preset("echo-finetuned").templates
    assert document.text == "Document:{text}\nDocument again:{text}"
    assert query.literals() == [
        ["Instruct:", "Retrieve passages that answer the question,", "\nQuery:"],
        ["\nQuery again:"],
        [],
    ]
    assert all(template.bos and template.eos and template.pool_tail for template in (document, query))


# --- the packaged adapter ---------------------------------------------------------------------------------------------


def test_the_default_is_the_built_in_model_with_the_adapter(packaged_adapter, adapter_of_default, texts):
    default = EchoEncoder(dtype="float32").encode_documents(texts)
    by_hand = EchoEncoder(adapter=adapter_of_default, dtype="float32").encode_documents(texts)
    plain = EchoEncoder(config="zero-shot", dtype="float32").encode_documents(texts)
    np.testing.assert_array_equal(default, by_hand)
    assert cosines(default, plain).max() < 0.999


@pytest.mark.parametrize("preset", ["zero-shot", "late-echo"])
def test_other_presets_run_the_plain_model(packaged_adapter, preset, texts, late_encoder):
    config = EchoConfig.preset(preset)
    assert config.packaged_adapter is None
    expected = late_encoder.with_config(config).encode_documents(texts)
    np.testing.assert_array_equal(EchoEncoder(config=config, dtype="float32").encode_documents(texts), expected)


def test_a_config_made_from_the_default_keeps_the_adapter(packaged_adapter, texts):
    short = EchoConfig.preset("default").replace(max_length=64)
    assert short.packaged_adapter == "default"
    expected = EchoEncoder(dtype="float32").encode_documents(texts)
    np.testing.assert_array_equal(EchoEncoder(config=short, dtype="float32").encode_documents(texts), expected)


def test_without_an_adapter_in_the_package_there_is_none(packaged_adapter, texts):
    (packaged_adapter / "adapter_config.json").unlink()
    assert EchoConfig.preset("default") == ZERO_SHOT
    assert EchoEncoder().fingerprint() == EchoEncoder(config="zero-shot").fingerprint()


def test_weights_are_shared_only_under_one_adapter(packaged_adapter, texts):
    default = EchoEncoder(dtype="float32")
    trained = default.encode_documents(texts)
    short = default.with_config(default.config.replace(max_length=64))
    assert short.runtime.backbone is default.runtime.backbone
    plain = default.with_config(ZERO_SHOT)
    assert plain.runtime.backbone is not default.runtime.backbone
    assert cosines(plain.encode_documents(texts), trained).max() < 0.999
    np.testing.assert_array_equal(plain.with_config(default.config).encode_documents(texts), trained)
    assert default.fit_transforms(TEXTS).runtime.backbone is default.runtime.backbone


def test_peft_is_not_needed(packaged_adapter):
    code = f"""
        import pathlib, sys
        sys.modules["peft"] = None
        from echo_embeddings import EchoEncoder
        from echo_embeddings.config import presets
        presets.PRESETS_FOLDER = pathlib.Path({str(packaged_adapter.parent)!r})
        encoder = EchoEncoder()
        print(encoder.encode_documents("a text").shape, encoder.config.packaged_adapter)
    """
    done = processes.run(textwrap.dedent(code))
    assert done.stdout == "(576,) default\n", done.stderr


def test_more_than_plain_lora_names_the_extra(adapter_of_default, tmp_path, monkeypatch):
    config = json.loads((adapter_of_default / "adapter_config.json").read_text()) | {"use_dora": True}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"more than plain LoRA.* from a checkout: .*pip install '\.\[peft\]'"):
        EchoEncoder(adapter=tmp_path).encode_documents("a")


# --- saving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saved_weights_have_the_adapter_in_them(packaged_adapter, texts, tmp_path, dtype):
    encoder = EchoEncoder(dtype=dtype)
    texts = texts if dtype == "float32" else texts[:2]  # a processor without bf16 takes ten times as long
    encoder.save_pretrained(tmp_path)
    assert "packaged_adapter" not in (tmp_path / "echo_config.json").read_text()
    loaded = EchoEncoder(tmp_path, dtype=dtype)
    assert loaded.config == encoder.config.replace(packaged_adapter=None, final_norm=False)
    assert cosines(loaded.encode_documents(texts), encoder.encode_documents(texts)).min() >= 0.9999


def test_the_config_alone_names_the_adapter(packaged_adapter, tmp_path):
    EchoConfig.preset("default").save(tmp_path)
    assert json.loads((tmp_path / "echo_config.json").read_text())["packaged_adapter"] == "default"
    assert EchoConfig.load(tmp_path) == EchoConfig.preset("default")


def test_a_pickle_finds_the_adapter_again(packaged_adapter, texts):
    encoder = EchoEncoder(dtype="float32")
    expected = encoder.encode_documents(texts[:2])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(encoder)).encode_documents(texts[:2]), expected)


# --- fingerprints ---------------------------------------------------------------------------------------------------


def test_fingerprints_know_the_adapter_and_its_version(packaged_adapter):
    default = EchoEncoder().fingerprint()
    assert default == EchoEncoder().fingerprint() != EchoEncoder(config="zero-shot").fingerprint()
    assert EchoConfig.preset("default").fingerprint() != ZERO_SHOT.fingerprint()
    path = packaged_adapter / "adapter_config.json"
    path.write_text(path.read_text().replace('"lora_alpha": 8', '"lora_alpha": 9'))
    assert EchoEncoder().fingerprint() != default


def test_fingerprints_of_other_configs_are_what_they_were():
    assert "packaged_adapter" not in EchoConfig.preset("echo").to_dict()


# --- what cannot work -------------------------------------------------------------------------------------------------


def test_another_model_is_refused_at_once(packaged_adapter, builtin_folder):
    message = (
        r"has the packaged adapter 'default', which was trained for the built-in SmolLM2-135M-Instruct and does not "
        r"fit 'other/model'; leave the model out, use config='late-echo', or train an adapter of your own"
    )
    with pytest.raises(ConfigError, match=message):
        EchoEncoder("other/model", config="default")
    with pytest.raises(ConfigError, match="does not fit 'other/model'"):
        EchoEncoder("other/model", config="echo").with_config(EchoConfig.preset("default"))
    tokenizer = AutoTokenizer.from_pretrained(builtin_folder)
    with pytest.raises(ConfigError, match="does not fit 'LlamaModel:'"):
        EchoEncoder(tiny("llama"), "default", tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="'default', which is not merged into this model; load the model with Echo"):
        Runtime(LoadedModel(tiny("llama"), tokenizer), EchoConfig.preset("default"))


def test_a_saved_config_that_names_it_beside_other_weights_is_refused(packaged_adapter, tmp_path):
    tiny("llama").save_pretrained(tmp_path)
    EchoConfig.preset("default").save(tmp_path)
    with pytest.raises(ConfigError, match="does not fit"):
        EchoEncoder(tmp_path).encode_documents("a")


def test_two_adapters_are_refused(packaged_adapter, adapter_of_default):
    with pytest.raises(ConfigError, match=r"packaged adapter 'default', and adapter='some/other' is another; leave"):
        EchoEncoder(config="default", adapter="some/other")
    mine = EchoEncoder(adapter=adapter_of_default)
    assert mine.config == ZERO_SHOT
    with pytest.raises(ConfigError, match="is another"):
        mine.with_config(EchoConfig.preset("default"))


def test_an_adapter_in_a_folder_meets_only_the_one_that_it_was_trained_on(
    packaged_adapter, adapter_of_default, tmp_path
):
    own = EchoEncoder(adapter_of_default)  # without a config of its own: trained on the plain built-in model
    message = r"packaged adapter 'default', but the adapter in .* was trained without a packaged adapter; leave the"
    for use in (
        lambda: EchoEncoder(adapter_of_default, "default"),
        lambda: own.with_config(EchoConfig.preset("default")),
    ):
        with pytest.raises(ConfigError, match=message):
            use()
    on_top = tmp_path / "on_top"
    shutil.copytree(adapter_of_default, on_top)
    EchoConfig.preset("default").save(on_top)
    with pytest.raises(
        ConfigError, match=r"was trained on top of the packaged adapter 'default' and works only together"
    ):
        EchoEncoder(adapter=on_top)
    with pytest.raises(ConfigError, match=r"holds an adapter, and adapter='some/other' is another; merge the first"):
        EchoEncoder(on_top, adapter="some/other", config="late-echo")
    # Whatever the config, both adapters are in the weights.
    for config in (None, "default"):
        assert EchoEncoder(on_top, config).runtime.merged_adapter == "default"
    with pytest.warns(LeftOutWarning, match="config= has another template and start_layer and exit_layer"):
        assert EchoEncoder(on_top, "classical").runtime.merged_adapter == "default"


def test_an_adapter_that_is_not_there_is_said(packaged_adapter):
    wanted = ZERO_SHOT.replace(packaged_adapter="newer")
    message = (
        r"packaged adapter 'newer' is not in this installation of echo-embeddings \(there: default\); use config='zero"
    )
    for use in (lambda: EchoEncoder(config=wanted), wanted.fingerprint):
        with pytest.raises(ConfigError, match=message):
            use()
    (packaged_adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"'default' is not in this installation .*\(there: none\)"):
        EchoEncoder(config="default")


@pytest.mark.parametrize("name", ["../zero-shot", "", 3, "A b"])
def test_a_name_is_no_path(name):
    with pytest.raises(ConfigError, match=r"packaged_adapter=.*an adapter in a folder goes in as EchoEncoder"):
        EchoConfig("{text}", packaged_adapter=name)


def test_the_package_is_whole():
    """What is shipped today: an adapter has its weights, and they are small."""
    for name in presets.names():
        config = EchoConfig.preset(name)
        assert (config.packaged_adapter is not None) == presets.has_adapter(name)
        if config.packaged_adapter is not None:
            weights = presets.adapter_folder(name) / presets.ADAPTER_WEIGHTS
            assert weights.stat().st_size <= 15 * 2**20
