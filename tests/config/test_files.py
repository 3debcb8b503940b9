"""Everything that is read is checked: a damaged config is one ConfigError that names the file and the field."""

import json
import os
import stat

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from echo_embeddings import ConfigError, EchoConfig, Lexical, Standardize, Template, Truncate
from echo_embeddings.config import files
from echo_embeddings.vectors.transforms import TRANSFORMS

GOOD = EchoConfig(
    Template("Text: {text} again: {text}", bos=True, eos=True, pool_tail=True),
    Template("{instruction}: {text} again: {text}", instruction="Find it"),
    start_layer=2,
    exit_layer=0.5,
    final_norm=True,
    transforms=(Standardize([0.0, 1.0], [1.0, 2.0]), Truncate(1)),
    max_length=99,
    packaged_adapter="default",
    lexical=Lexical([1.0, 2.0], blocks=(4, 8)),
)
DEEP = "[" * 100_000 + "]" * 100_000
#: Where a value is, and something that cannot stand there; the error names the last part of the place.
WRONG = [
    *[(("template",), value) for value in (None, 3, [], True, {}, "no field")],
    *[(("template", "text"), value) for value in (None, 3, "", "{text} {title}", "{text", [DEEP[:9]])],
    *[(("template", name), value) for name in ("eos", "pool_tail", "isolated") for value in ("yes", 1, 0.0, None, [])],
    *[(("template", "bos"), value) for value in ("yes", 1, 0.0, [])],
    (("template", "colour"), "red"),
    *[(("query_template",), value) for value in (3, [], False)],
    *[(("query_template", "instruction"), value) for value in (3, True, ["Find it"], {})],
    *[(("pooling",), value) for value in (None, "max", 3, ["mean"], {"name": "mean"})],
    *[(("start_layer",), value) for value in (None, True, "2", -1, 1.0, 1.5, float("nan"), float("inf"), [2])],
    *[(("exit_layer",), value) for value in (True, "2", 0, 0.0, -0.5, 1.5, float("nan"), float("-inf"), [2])],
    *[(("final_norm",), value) for value in ("yes", 1, 0.0, [])],
    *[(("max_length",), value) for value in (None, True, "99", 0, -3, 99.0, float("nan"), [99])],
    *[(("packaged_adapter",), value) for value in (True, 3, "", "../default", "A b", ["default"])],
    *[(("transforms",), value) for value in (None, True, 3, "standardize", {"name": "truncate"})],
    *[(("transforms", 1), value) for value in (None, 3, "truncate", [])],
    *[(("transforms", 1, "name"), value) for value in (None, 3, "whiten", ["truncate"], {})],
    *[(("transforms", 1, "options"), value) for value in (None, 3, [], {"colour": "red"}, {})],
    *[(("transforms", 1, "options", "dimension"), value) for value in (None, True, "1", 0, 1.0, float("nan"))],
    *[(("lexical",), value) for value in (True, 3, "idf", [], {})],
    *[(("lexical", "blocks"), value) for value in (None, "48", [], [0], [4, True], [4, 8.0], ["4"], {})],
    *[(("lexical", "size"), value) for value in (None, True, "4", 2, 4.0, float("nan"))],
    *[(("lexical", "document_weight"), value) for value in (None, True, "1", -1, 1e300, float("nan"))],
    *[(("lexical", "query_weight"), value) for value in (None, True, "1", -1, 1e300, float("inf"))],
    (("lexical", "colour"), "red"),
    (("colour",), "red"),
]


@pytest.fixture
def folder(tmp_path):
    """A folder with a good config."""
    GOOD.save(tmp_path)
    assert EchoConfig.load(tmp_path) == GOOD
    return tmp_path


def rewrite(folder, change):
    """Change the JSON file; ``change`` is given the object and may give another."""
    path = folder / files.CONFIG_FILE
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))


@pytest.mark.parametrize(("place", "value"), WRONG, ids=lambda part: repr(part)[:40])
def test_a_wrong_field_is_named_with_its_file(folder, place, value):
    def change(content):
        *parents, last = place
        for name in parents:
            content = content[name]
        content[last] = value

    rewrite(folder, change)
    with pytest.raises(ConfigError) as raised:
        EchoConfig.load(folder)
    message = str(raised.value)
    assert message.startswith(f"{folder / files.CONFIG_FILE} cannot be read: ")
    assert all((f"[{name}]" if isinstance(name, int) else name) in message for name in place if name != "options")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("place", "name"),
    [((), "template"), (("template",), "text"), (("transforms", 1, "options"), "dimension"), (("lexical",), "size")],
)
def test_what_is_missing_is_named(folder, place, name):
    def change(content):
        for step in place:
            content = content[step]
        del content[name]

    rewrite(folder, change)
    with pytest.raises(ConfigError, match=rf"cannot be read: .*it has no (field|option) '{name}'"):
        EchoConfig.load(folder)


def test_fields_with_defaults_may_be_left_out(folder):
    rewrite(folder, lambda content: {"format": files.FORMAT, "template": "{text}"})
    (folder / files.ARRAYS_FILE).unlink()
    assert EchoConfig.load(folder) == EchoConfig("{text}")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        *[(value, "has no format number, so it is no echo config") for value in (None, True, "2", 2.0, [2])],
        (files.FORMAT + 1, "written by a newer echo-embeddings; update it, from a newer checkout: "),
        (1, "has format 1, and this version of echo-embeddings reads format 2; save the model again"),
        (0, "has format 0"),
    ],
)
def test_the_format_number_must_be_ours(folder, number, message):
    rewrite(folder, lambda content: content | {"format": number})
    with pytest.raises(ConfigError, match=f"{files.CONFIG_FILE} (was )?{message}"):
        EchoConfig.load(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not valid JSON"),
        ("{", "is not valid JSON"),
        (DEEP, r"is not valid JSON \(nested too deeply\)"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, r"is not valid JSON \(nested too deeply\)"),
        ("[1]", "holds a list and no JSON object"),
        ("null", "holds a NoneType and no JSON object"),
        ('{"format": 2, "template": "{text}", "template": "X {text}"}', "it has the field 'template' twice"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        (f'{{"format": {"9" * 5000}}}', "is not valid JSON"),
    ],
    ids=lambda part: repr(part)[:30],
)
def test_a_damaged_json_file_is_named(folder, text, message):
    (folder / files.CONFIG_FILE).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=f"{files.CONFIG_FILE} (cannot be read: )?{message}"):
        EchoConfig.load(folder)


def test_a_file_that_cannot_be_opened_is_named(folder):
    with pytest.raises(ConfigError, match=r"echo_config.json does not exist; EchoEncoder.save_pretrained writes it"):
        EchoConfig.load(folder / "gone")
    with pytest.raises(ConfigError, match=rf"{files.CONFIG_FILE} cannot be read: Not a directory"):
        EchoConfig.load(folder / files.ARRAYS_FILE)
    (folder / files.ARRAYS_FILE).unlink()
    (folder / files.ARRAYS_FILE).mkdir()
    with pytest.raises(ConfigError, match=rf"{files.ARRAYS_FILE} cannot be read: Is a directory"):
        EchoConfig.load(folder)


@pytest.mark.parametrize("damage", ["empty", "text", "short", "header"])
def test_a_damaged_file_of_arrays_is_named(folder, damage):
    path = folder / files.ARRAYS_FILE
    whole = path.read_bytes()
    header = b'{"lexical.weights":{"dtype":"F32","shape":[2],"data_offsets":[0,999999]}}'
    damaged = {
        "empty": b"",
        "text": b"these are not arrays",
        "short": whole[:-1],
        "header": len(header).to_bytes(8, "little") + header,
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(ConfigError, match=rf"{files.ARRAYS_FILE} is damaged \(.*\); save the model again"):
        EchoConfig.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.mean": None}, "the arrays of 'standardize' are missing from .*: 0.mean"),
        ({"lexical.weights": None}, "the arrays of 'lexical' are missing from .*: lexical.weights"),
        ({"0.median": [1.0]}, r"has the array 0\.median, which 'standardize' does not have"),
        ({"7.mean": [1.0]}, r"has the array '7\.mean', and nothing in the config needs it"),
        ({"mean": [1.0]}, "has the array 'mean', and nothing in the config needs it"),
        ({"0.mean": np.array([0, 1])}, r"the array '0\.mean' is of int64; it must be of float16, float32 or float64"),
        ({"0.mean": np.array([True, False])}, "is of bool"),
        ({"0.mean": [0.0, np.nan]}, r"transforms\[0\]: Standardize: mean has NaN or infinity in it"),
        ({"0.mean": np.array([0.0, 1e300])}, r"transforms\[0\]: Standardize: mean has NaN or infinity in it"),
        ({"0.std": [1.0, 0.0]}, r"transforms\[0\]: Standardize needs std above 0"),
        ({"0.std": [1.0]}, r"transforms\[0\]: Standardize needs mean and std of one shape"),
        ({"lexical.weights": [1.0, -1.0]}, "lexical: Lexical needs weights from 0 up"),
        ({"lexical.weights": [1.0, 1.0, 1.0]}, r"lexical: Lexical needs weights \[buckets\], a power of two"),
    ],
    ids=lambda part: str(part)[:40],
)
def test_a_wrong_array_is_named(folder, change, message):
    path = folder / files.ARRAYS_FILE
    arrays = {name: change.get(name, array) for name, array in (load_file(path) | change).items()}
    dtyped = {
        name: array if isinstance(array, np.ndarray) else np.array(array, np.float32)
        for name, array in arrays.items()
        if array is not None
    }
    save_file(dtyped, path)
    with pytest.raises(ConfigError, match=message) as raised:
        EchoConfig.load(folder)
    assert str(folder) in str(raised.value)


def test_without_the_file_of_arrays_it_says_which_are_missing(folder):
    (folder / files.ARRAYS_FILE).unlink()
    with pytest.raises(ConfigError, match=f"the arrays of 'standardize' are missing from .*{files.ARRAYS_FILE}"):
        EchoConfig.load(folder)


def test_a_value_nested_too_deeply_to_be_shown_is_no_recursion_error(folder, monkeypatch):
    """JSON that can be read, but whose value cannot be shown in a message."""

    class Deep(list):
        def __repr__(self):
            raise RecursionError

    content = files.read_object(folder / files.CONFIG_FILE) | {"pooling": Deep()}
    monkeypatch.setattr(files, "read_object", lambda path: content)
    with pytest.raises(ConfigError, match="echo_config.json cannot be read: a value in it is nested too deeply"):
        EchoConfig.load(folder)


def test_a_long_value_is_not_quoted_in_full(folder):
    rewrite(folder, lambda content: content | {"pooling": "mean" * 10_000})
    with pytest.raises(ConfigError, match=r"pooling='meanmean.* \.\.\.$") as raised:
        EchoConfig.load(folder)
    assert len(str(raised.value)) < 2000


@pytest.mark.parametrize("kind", [*TRANSFORMS.values(), Lexical], ids=lambda kind: kind.name)
def test_every_fitted_part_says_what_it_is_made_of(kind):
    """Arrays and options are the arguments of ``__init__``; reading checks against them."""
    made = {
        "standardize": lambda: kind([0.0], [1.0]),
        "embed-filter": lambda: kind([[1.0]]),
        "project": lambda: kind([[1.0]]),
        "truncate": lambda: kind(1),
        "lexical": lambda: kind([1.0]),
    }[kind.name]()
    assert tuple(made.arrays) == kind.array_names
    assert tuple(made.options) == kind.option_names
    assert kind(**made.arrays, **made.options) == made


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_other_users_can_read_what_is_written(tmp_path):
    before = os.umask(0o022)
    try:
        GOOD.save(tmp_path)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o644}
