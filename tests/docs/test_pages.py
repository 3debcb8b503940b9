"""What README and docs show works: Python blocks run, commands exist, links lead somewhere."""

import re
import shlex
import socket
import threading
import warnings
from itertools import dropwhile
from pathlib import Path
from typing import NamedTuple

import pytest
import uvicorn

import echo_embeddings
from echo_embeddings import EchoEncoder
from echo_embeddings.config import presets
from echo_embeddings.server import create_app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Pages of results are written by the benchmark.
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in DOCS.rglob("*.md") if DOCS / "bench" not in path.parents),
    *sorted((ROOT / "integrations").rglob("README.md")),
]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
# What stands before a block that cannot run as it is: it needs a hub, a GPU, a server or a package that is not in our
# environment, or runs with other numbers.
COMMENT = re.compile(r"<!-- (hub|gpu|package|server|test: .*) -->\s*\Z")
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")

# Files that pages speak of. Written for these tests; no row of any data set.
FILES = {
    "notes/ferry.md": "# Ferry\n\nThe ferry leaves the island at dawn.\n",
    "pairs.tsv": "score\tsentence1\tsentence2\n5\tThe ferry leaves at dawn.\tThe boat sails at sunrise.\n"
    "3\tThe ferry leaves at dawn.\tA ship is in the harbour.\n0\tBread needs flour.\tThe museum is closed.\n",
    "pairs.jsonl": "".join(
        f'{{"anchor": "{question}", "positive": "{passage}"}}\n'
        for question, passage in (
            ("when does the ferry leave?", "The ferry leaves the island at dawn."),
            ("what is in bread?", "Bread is made of flour and water."),
            ("when is the museum closed?", "The museum is closed on Mondays."),
            ("who met on Tuesday?", "The committee met on Tuesday."),
            ("where are boats repaired?", "Boats are repaired in the old harbour."),
            ("do dogs pay?", "Dogs travel free of charge on a lead."),
        )
    ),
    "reviews.csv": "title,body\nA boat,The ferry was late again.\nA loaf,The bread was warm.\nA room,Too small.\n",
    "questions.txt": "when does the ferry leave?\nwhat is in bread?\n",
}


class Block(NamedTuple):
    """A fenced block: where it stands, in which language, and what must be known to run it."""

    line: int
    language: str
    text: str
    comment: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        comment = COMMENT.search(text[: match.start()])
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(line, match[1], match[2], comment[1] if comment else ""))
    return found


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def with_blocks(language: str) -> list[Path]:
    return [page for page in PAGES if any(block.language == language for block in blocks(page))]


def numbered(block: Block) -> str:
    """The code with the numbers that its comment asks for: ``test: steps=300, limit=9 -> steps=2, limit=1``."""
    code = block.text
    if block.comment.startswith("test: "):
        before, after = (side.split(", ") for side in block.comment.removeprefix("test: ").split(" -> "))
        for old, new in zip(before, after, strict=True):
            assert old in code, f"line {block.line}: {old} is not in the block"
            code = code.replace(old, new)
    return code


@pytest.fixture(scope="session")
def shared_encoder_class(builtin_folder):
    """``EchoEncoder``, but the built-in model with equal plain arguments is made once for all pages."""
    made = {}

    class Sharing(type(EchoEncoder)):
        def __call__(cls, *args, **kwargs):
            values = [*args, *kwargs.values()]
            # A path means another folder on another page, and an object has no lasting name.
            if args[:1] not in ((), (None,)) or not all(isinstance(v, str | int | None) for v in values):
                return EchoEncoder(*args, **kwargs)
            key = (args, tuple(sorted(kwargs.items())))
            if key not in made:
                made[key] = EchoEncoder(*args, **kwargs)
            return made[key]

        def __instancecheck__(cls, instance):  # for modules that are imported while this stands in
            return isinstance(instance, EchoEncoder)

    return Sharing("EchoEncoder", (EchoEncoder,), {})


def test_there_are_pages_with_code():
    assert len(with_blocks("python")) >= 15
    assert len(blocks(ROOT / "README.md")) >= 2


def test_every_guide_begins_with_code():
    for page in (DOCS / "guides").glob("*.md"):
        assert re.match(r"# .+\n\n```", page.read_text(encoding="utf-8")), named(page)


@pytest.fixture(scope="session")
def served(builtin_encoder):
    """The address of a server of the built-in model, for blocks that ask one."""
    server = uvicorn.Server(uvicorn.Config(create_app(builtin_encoder), log_config=None, access_log=False))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("page", with_blocks("python"), ids=named)
def test_python_blocks_run(page, shared_encoder_class, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(echo_embeddings, "EchoEncoder", shared_encoder_class)
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    namespace = {"__name__": "page"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for block in blocks(page):
            if block.language != "python":
                continue
            written = numbered(block)
            if block.comment == "server":
                assert "http://127.0.0.1:8000" in written
                written = written.replace("http://127.0.0.1:8000", request.getfixturevalue("served"))
            code = compile(written, f"{named(page)}, line {block.line}", "exec")
            if block.comment in ("hub", "gpu", "package"):
                continue
            try:
                exec(code, namespace)
            except Exception as error:  # noqa: BLE001
                pytest.fail(f"{named(page)}, line {block.line}: {error!r}\n{block.text}")


def commands(page: Path) -> list[tuple[int, list[str]]]:
    """Each command of the page's shell blocks with its line, in words."""
    found = []
    for block in blocks(page):
        if block.language == "sh":
            for line in block.text.replace("\\\n", " ").splitlines():
                found += [(block.line, words) for words in _piped(shlex.split(line, comments=True))]
    return found


def _piped(words: list[str]) -> list[list[str]]:
    """The commands of a pipeline or a list, without assignments before them and files behind ``<``."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word in ("|", "&&"):
            parts.append([])
        else:
            parts[-1].append(word)
    kept = []
    for part in parts:
        words = list(dropwhile(re.compile(r"[A-Z_]+=").match, part))
        kept.append(words[: words.index("<")] if "<" in words else words)
    return [words for words in kept if words]


@pytest.mark.parametrize("page", with_blocks("sh"), ids=named)
def test_commands_exist(page):
    for line, words in commands(page):
        place = f"{named(page)}, line {line}: {shlex.join(words)}"
        if words[0] == "echo-embeddings":
            _parse(words[1:], place)
        elif words[0] == "make":
            targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert words[1] in targets, place
        elif words[:2] == ["python", "-m"]:
            module = ROOT / words[2].replace(".", "/")
            assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file(), place
        elif words[0] in ("python", "bash"):
            assert (ROOT / words[1]).is_file(), place
        elif words[0] == "docker":
            assert (ROOT / "Dockerfile").is_file(), place
        elif words[:2] == ["pip", "install"]:
            folders = [word.partition("[")[0] for word in words[2:] if word.startswith(".")]
            assert all((ROOT / folder / "pyproject.toml").is_file() for folder in folders), place
        else:
            assert words[0] == "zcat", f"{place}: no test knows this program"


def _parse(words: list[str], place: str) -> None:
    """Read the words as the command line does, up to the point where work would begin."""
    import click
    from typer.main import get_command

    from echo_embeddings.cli.app import app

    command, context = get_command(app), None
    try:
        while hasattr(command, "get_command"):  # a group of commands
            context = context or command.make_context("echo-embeddings", [], resilient_parsing=True)
            name, *words = words
            command = command.get_command(context, name)
            assert command is not None, f"{place}: there is no command {name}"
            context = None
        command.make_context(command.name, list(words))
    except click.ClickException as error:
        pytest.fail(f"{place}: {error.format_message()}")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{named(page)} links to {target}"


def test_pages_of_the_site_link_to_the_site_only():
    for page in DOCS.rglob("*.md"):
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            assert DOCS in (page.parent / target).resolve().parents, f"{named(page)} links to {target}"


def test_what_pages_include_is_there():
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r'^--8<-- "(.+)"', page.read_text(encoding="utf-8"), re.MULTILINE):
            assert (ROOT / target).is_file(), f"{named(page)} includes {target}"


def test_the_site_has_every_page():
    nav = re.findall(r"\S+\.md$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert set(nav) == there


def test_the_table_of_presets_is_made_from_the_presets():
    guide = (DOCS / "guides" / "choose.md").read_text(encoding="utf-8")
    assert presets.markdown_table() in guide, f"put this into docs/guides/choose.md:\n{presets.markdown_table()}"


def test_contributing_names_every_module():
    house = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = house.partition("## The rooms")[2].partition("**Who may import whom.**")[0]
    rooms = dict(re.findall(r"^  (?=[a-z/]+/ )([a-z/]+)/ (.*?)(?=^ {0,2}\S|\Z)", tree, re.DOTALL | re.MULTILINE))
    package = ROOT / "src" / "echo_embeddings"
    for path in package.rglob("*.py"):
        room = path.parent.relative_to(package).as_posix()
        if path.stem != "__init__" and room != "cli":  # a command's file has its name
            names = tree if room == "." else rooms[room]
            assert re.search(rf"\b{path.stem}\b", names), f"{room}/{path.name} is not in CONTRIBUTING's tree"


def test_contributing_names_files_that_are_there():
    house = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name in re.findall(r"`([a-z_/-]+(?:/|\.py|\.md))`", house):
        assert any((base / name).exists() for base in (ROOT, ROOT / "src" / "echo_embeddings")), name


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_of_the_repository_are_there(page):
    places = r"`((?:benchmarks|docs|examples|integrations|research|src|tests)/[\w./-]+)`"
    for name in re.findall(places, page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), f"{named(page)} names {name}"


def test_the_readme_shows_lines_of_the_report():
    """The table of methods without training is not written by hand."""
    pages = ROOT / "docs" / "results" / "README.md", ROOT / "README.md"
    report, readme = (page.read_text(encoding="utf-8") for page in pages)
    _, start, rest = readme.partition("| method |")
    shown = (start + rest.partition("\n\n")[0]).splitlines()
    assert len(shown) > 6
    assert set(shown) <= set(report.splitlines())


def test_the_readme_fits_two_screens():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110
