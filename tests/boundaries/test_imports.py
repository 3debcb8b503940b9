"""The import rule: imports go to lower floors only, neighbours do not know each other, and there are no circles."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "echo_embeddings"
SRC = ROOT / "src" / PACKAGE
INTEGRATIONS = {
    "langchain_echo_embeddings": ROOT / "integrations/langchain/src",
    "llama_index.embeddings.echo": ROOT / "integrations/llama-index/src",
    "sentence_transformers_echo": ROOT / "integrations/sentence-transformers/src",
}
#: From the ground up. What is not built yet has its place already.
FLOORS = [
    {"errors", "types", "extras", "notices", "user_cache"},
    {"text", "data", "forking"},
    {"vectors"},
    {"config"},
    {"model"},
    {"forward", "defaults", "options"},
    {"engine"},
    {"saving"},
    {"encoder"},
    {"frameworks", "search", "evaluation", "chunking", "tuning", "distributed", "server"},
    {"cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
#: Rooms that must be usable where torch is not installed or shall not be loaded.
WITHOUT_TORCH = ("text", "data", "vectors", "config")


def modules(folder, package):
    """Every module below ``folder`` by its dotted name."""
    return {
        ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in sorted(folder.rglob("*.py"))
    }


CORE = modules(SRC, PACKAGE)
ADAPTERS = {
    name: path
    for package, source in INTEGRATIONS.items()
    for name, path in modules(source / package.replace(".", "/"), package).items()
}
ALL = CORE | ADAPTERS


def imports(name, path):
    """Names of all modules that a module imports, also inside functions and for type checkers."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            found = {f"{base}.{alias.name}" for alias in node.names}
            # "from package import module" imports the module; its package is only on the way.
            if found - set(ALL):
                yield base
            yield from found & set(ALL)


def ours(name, path):
    """Of these, those of this repository; a package stands for its ``__init__`` alone."""
    return {found for found in imports(name, path) if found in ALL and found != name}


def room(name):
    return name.removeprefix(f"{PACKAGE}.").partition(".")[0]


def test_every_room_has_a_floor():
    rooms = {room(name) for name in CORE if name != PACKAGE}
    assert rooms <= set(FLOOR), f"no floor for {sorted(rooms - set(FLOOR))}"


@pytest.mark.parametrize("name", sorted(name for name in CORE if name != PACKAGE))
def test_a_module_imports_from_lower_floors_only(name):
    own = room(name)
    for found in ours(name, CORE[name]):
        if found == PACKAGE:
            continue  # the public names, whose modules are imported where they are used
        there = room(found)
        assert there == own or FLOOR[there] < FLOOR[own], f"{name} imports {found}"


def test_only_the_command_line_imports_the_public_names():
    """Elsewhere in the package that would be a circle through ``__init__``."""
    importers = {room(name) for name, path in CORE.items() if name != PACKAGE and PACKAGE in ours(name, path)}
    assert importers <= {"cli"}


def test_there_are_no_circles():
    graph = {name: ours(name, path) - {PACKAGE} for name, path in ALL.items()}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
    assert len(order) >= len(ALL) - 1


def test_nothing_in_the_core_imports_an_integration():
    for name, path in CORE.items():
        assert not [found for found in imports(name, path) if found.startswith(tuple(INTEGRATIONS))], name


def test_typer_and_rich_are_for_the_command_line():
    for name, path in CORE.items():
        used = {found.partition(".")[0] for found in imports(name, path)} & {"typer", "rich"}
        assert not used or room(name) == "cli", f"{name} imports {used}"


def test_private_modules_of_torch_and_transformers_stay_in_two_rooms():
    for name, path in CORE.items():
        private = [
            found
            for found in imports(name, path)
            if found.partition(".")[0] in ("torch", "transformers") and "._" in found
        ]
        assert not private or name.startswith((f"{PACKAGE}.forward.speed", f"{PACKAGE}.model.architecture")), private


@pytest.mark.parametrize("own", WITHOUT_TORCH)
def test_a_room_without_torch(own):
    names = [name for name in CORE if room(name) == own]
    code = f"import sys\nfor name in {names!r}: __import__(name)\nprint(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "tokenizers", "typer"} & set(done.stdout.split())


@pytest.mark.parametrize("name", sorted(name for name, path in CORE.items() if path.name == "__init__.py"))
def test_a_room_says_what_is_inside_and_what_it_does_not_know(name):
    said = ast.get_docstring(ast.parse(CORE[name].read_text(encoding="utf-8")))
    assert said
    assert name == PACKAGE or len(said.splitlines()) <= 5
