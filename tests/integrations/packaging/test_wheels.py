"""Each distribution holds its own files only, asks for its own framework only, and works as a normal install."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hatchling import build

ROOT = Path(__file__).parents[3]
INTEGRATIONS = ROOT / "integrations"
LANGCHAIN, LLAMA_INDEX = "langchain_echo_embeddings/", "llama_index/embeddings/echo/"


@contextmanager
def working_in(folder):
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def wheel_of(project, folder):
    """Build a wheel as ``python -m build`` does, which calls the same function in a process of its own."""
    with working_in(project):
        return folder / build.build_wheel(os.fspath(folder))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    return {name: wheel_of(INTEGRATIONS / name, tmp_path_factory.mktemp(name)) for name in ("langchain", "llama-index")}


def names(wheel):
    with zipfile.ZipFile(wheel) as opened:
        return {name for name in opened.namelist() if ".dist-info/" not in name}


def metadata(wheel):
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        return opened.read(name).decode()


def test_files(wheels):
    langchain = {"__init__.py", "embeddings.py", "py.typed"}
    llama_index = {"__init__.py", "base.py", "late_chunker.py", "py.typed"}
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
    wheel = wheel_of(project, tmp_path)
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


#: Each distribution: its folder, its packages below ``src``, and what lies beside ``src`` in its source.
DISTRIBUTIONS = {
    "echo_embeddings": (".", "echo_embeddings", {"CHANGELOG.md"}),
    "langchain_echo_embeddings": ("integrations/langchain", "langchain_echo_embeddings", set()),
    "llama_index_embeddings_echo": ("integrations/llama-index", "llama_index", set()),
    "sentence_transformers_echo": ("integrations/sentence-transformers", "sentence_transformers_echo", set()),
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The files that git knows, and some that lie about in a developer's folder."""
    copy = tmp_path_factory.mktemp("checkout")
    known = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, known.split("\0")):
        if name.startswith(("src/", "integrations/", "docs/")) or "/" not in name:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_file():  # else it is removed, and that is not committed yet
                shutil.copy(ROOT / name, copy / name)
    for folder, *_ in DISTRIBUTIONS.values():
        for stray in (
            "notes.md",
            "tests/test_x.py",
            "other/src/x.py",
            "other/README.md",
            "other/LICENSE",
            "build/x.py",
        ):
            (copy / folder / stray).parent.mkdir(parents=True, exist_ok=True)
            (copy / folder / stray).write_text("")
    return copy


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_source_and_wheel_hold_exactly_what_they_should(checkout, tmp_path, name):
    """The wheel is made of the source distribution, so nothing is missing in that either."""
    folder, package, more = DISTRIBUTIONS[name]
    if name == "echo_embeddings":  # once as a release is built
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, checkout / folder]
        subprocess.run(command, check=True, capture_output=True)
    else:
        with working_in(checkout / folder):
            made = build.build_sdist(os.fspath(tmp_path))
        with tarfile.open(tmp_path / made) as opened:
            opened.extractall(tmp_path / "unpacked", filter="data")
        (unpacked,) = (tmp_path / "unpacked").iterdir()
        wheel_of(unpacked, tmp_path)
    source = checkout / folder / "src"
    files = {path.relative_to(source).as_posix() for path in (source / package).rglob("*") if path.is_file()}
    assert len(files) >= 3
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        there = {path.split("/", 1)[1] for path in opened.getnames()}
    beside = {".gitignore", "LICENSE", "README.md", "PKG-INFO", "pyproject.toml"} | more
    assert there == {f"src/{path}" for path in files} | beside
    (wheel,) = tmp_path.glob("*.whl")
    assert names(wheel) == files
    about = {"METADATA", "RECORD", "WHEEL", "licenses/LICENSE"}
    if name in {"echo_embeddings", "sentence_transformers_echo"}:
        about.add("entry_points.txt")
    with zipfile.ZipFile(wheel) as opened:
        inside = {path.split("/", 1)[1] for path in opened.namelist() if ".dist-info/" in path}
    assert inside == about


def test_no_two_wheels_have_a_file_in_common():
    """Else the one installed last would replace a part of the other."""
    seen = {}
    for name, (folder, package, _) in DISTRIBUTIONS.items():
        source = ROOT / folder / "src"
        for path in (source / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert seen.setdefault(path.relative_to(source), name) == name
