"""``model``: what is said of a model, and how the built-in one is fetched."""

import json

from echo_embeddings import EchoConfig
from echo_embeddings.config import presets


def test_model_info(run, builtin_folder):
    told = json.loads(run("model", "info", "--json"))
    assert told["model"] == "SmolLM2-135M-Instruct"
    assert told["from"] == str(builtin_folder)
    assert (told["architecture"], told["layers"], told["hidden_size"]) == ("llama", 30, 576)
    assert told["dimension"] == 1024
    assert told["fingerprint"] == EchoConfig.preset("default").fingerprint()
    assert "template" in run("model", "info", builtin_folder)


def test_model_info_names_the_packaged_adapter(run, packaged_adapter):
    told = json.loads(run("model", "info", "--json"))
    assert told["adapter"] == f"default (packaged, {presets.digest('default')[:12]})"
    assert "adapter         default (packaged, " in run("model", "info")


def test_model_info_of_nothing(run):
    message = run("model", "info", "./nowhere", code=1)
    assert message == "error: there is no model './nowhere'; give a hub id, a folder with config.json, or a .gguf file"


def test_model_pull_of_a_wrong_file(run, tmp_path):
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    assert run("model", "pull", "--gguf", "other.gguf", code=1).startswith("error: other.gguf has SHA-256")
    assert run("model", "pull", "--gguf", "gone.gguf", code=1).startswith("error: there is no file 'gone.gguf'")


def test_model_pull_of_what_is_there(run, builtin_folder):
    assert run("model", "pull") == f"SmolLM2-135M-Instruct is in {builtin_folder}\n"


def test_model_info_runs_no_code_and_asks_nothing(run, tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit(7)")
    config = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.A"}, "num_hidden_layers": 6}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "needs code that is in its files" in run("model", "info", tmp_path, code=1)
