"""Each distribution holds its own files only, asks for its own framework only, and works as a normal install."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
INTEGRATIONS = ROOT / "integrations"
LANGCHAIN, LLAMA_INDEX = "langchain_echo_embeddings/", "llama_index/embeddings/echo/"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Both wheels, built as a release would be."""
    built = {}
    for name in ("langchain", "llama-index"):
        folder = tmp_path_factory.mktemp(name)
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, INTEGRATIONS / name]
        subprocess.run(command, check=True, capture_output=True)
        (built[name],) = folder.glob("*.whl")
    return built


def names(wheel):
    with zipfile.ZipFile(wheel) as opened:
        return {name for name in opened.namelist() if ".dist-info/" not in name}


def metadata(wheel):
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        return opened.read(name).decode()


def test_files(wheels):
    langchain = {"__init__.py", "embeddings.py", "py.typed"}
    llama_index = {"__init__.py", "base.py", "py.typed"}
    assert names(wheels["langchain"]) == {LANGCHAIN + name for name in langchain}
    assert names(wheels["llama-index"]) == {LLAMA_INDEX + name for name in llama_index}


def test_the_core_has_its_presets_with_their_adapter(adapter_of_default, tmp_path):
    """Built from a copy, in which the default surely has an adapter."""
    project, package = tmp_path / "project", "src/echo_embeddings"
    shutil.copytree(ROOT / package, project / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, project)
    adapter = {"adapter_config.json", "adapter_model.safetensors"}
    for name in adapter:
        shutil.copy(adapter_of_default / name, project / package / "config" / "presets" / "default")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, project]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    shipped = {name.removeprefix("echo_embeddings/config/presets/") for name in names(wheel) if "/presets/" in name}
    fitted = {"echo_config.json", "echo_transforms.safetensors"}
    assert shipped >= {f"zero-shot/{name}" for name in fitted} | {f"default/{name}" for name in fitted | adapter}
    requirements = [line for line in metadata(wheel).splitlines() if line.startswith("Requires-Dist")]
    assert all("extra ==" in line for line in requirements if "peft" in line)


def test_requirements(wheels):
    def required(name):
        lines = metadata(wheels[name]).splitlines()
        return {
            line.split(":")[1].strip().split(">")[0].split("<")[0] for line in lines if line.startswith("Requires-D")
        }

    assert required("langchain") == {"echo-embeddings", "langchain-core"}
    assert required("llama-index") == {"echo-embeddings", "llama-index-core"}
    assert "llama" not in metadata(wheels["langchain"]).lower()
    assert "langchain" not in metadata(wheels["llama-index"]).lower()


@pytest.mark.parametrize(
    ("name", "statement", "where"),
    [
        ("langchain", "import langchain_core, langchain_echo_embeddings as m", LANGCHAIN),
        ("llama-index", "import llama_index.core, llama_index.embeddings.echo as m", LLAMA_INDEX),
    ],
)
def test_normal_install(wheels, tmp_path, name, statement, where):
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", tmp_path]
    subprocess.run([*pip, wheels[name]], check=True, capture_output=True)
    code = f"{statement}; print(m.__file__)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"PYTHONPATH": os.fspath(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == os.fspath(tmp_path / where / "__init__.py")
