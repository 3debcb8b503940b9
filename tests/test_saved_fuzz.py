"""Damage each file of a saved folder and of an adapter: right vectors, or one error of ours that names the file."""

import random
import shutil
import time
import warnings

import numpy as np
import peft
import pytest

from echo_embeddings import EchoConfig, EchoEncoder, EchoError
from tests.architectures import small_tokenizer, tiny

TEXTS = ["The ferry leaves at dawn.", "Bread is baked from flour."]
FIT = [f"{text} {more}" for text in TEXTS for more in ("Again.", "No.", "A ferry.", "An island, a loaf.")]
SEED = 23
#: Bits of each file that are flipped, one at a time.
FLIPS = 2
#: Seconds that a folder may take; an idle machine needs a tenth of a second.
LONGEST = 30


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    tiny("llama").save_pretrained(folder)
    small_tokenizer(TEXTS).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """Two folders that encoders saved, alike but in weights, words and config."""
    folder = tmp_path_factory.mktemp("saved")
    late = EchoConfig.preset("late-echo")
    EchoEncoder(model, late, dtype="float32").fit_transforms(FIT).save_pretrained(folder / "one")
    other = tiny("llama")
    other.layers[1].mlp.up_proj.weight.data *= 2
    words = [text.upper() for text in TEXTS]
    config = late.replace(max_length=9, pooling="last")
    encoder = EchoEncoder(other, config, tokenizer=small_tokenizer(words), on_truncate="ignore")
    encoder.fit_transforms(FIT[::-1] + words).save_pretrained(folder / "other")
    return folder / "one", folder / "other"


@pytest.fixture(scope="module")
def adapters(model, tmp_path_factory):
    """Two folders of adapters, as sentence-transformers saves a model that is being trained."""
    echo = pytest.importorskip("sentence_transformers_echo")
    folders = []
    for seed, name in enumerate(("one", "other")):
        encoder = EchoEncoder(model, EchoConfig.preset("late-echo").replace(max_length=9 - seed), dtype="float32")
        trained = echo.from_encoder(encoder)
        trained[0].auto_model.add_adapter(peft.LoraConfig(r=2, target_modules=["q_proj"]))
        for parameter_name, parameter in trained[0].auto_model.named_parameters():
            if "lora_B" in parameter_name:
                parameter.data.fill_(0.1 + seed)
        folders.append(tmp_path_factory.mktemp("adapters") / name)
        trained.save_pretrained(str(folders[-1]))
    return tuple(folders)


def damages(data, other, rng):
    """What may become of a file: its new content by a name, ``None`` for no file."""
    yield "removed", None
    yield "emptied", b""
    yield "half", data[: len(data) // 2]
    yield "swapped", other
    for place in [rng.randrange(8 * len(data)) for _ in range(FLIPS)]:
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        yield f"bit {place}", bytes(flipped)


def fuzzed(folder, other, work, load):
    """Damage a copy of ``folder`` in each way, and load it; how many ways, and how many gave vectors."""
    rng, expected = random.Random(SEED), load(folder)
    tried, right = 0, 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        inner = path.relative_to(folder)
        for what, content in damages(path.read_bytes(), (other / inner).read_bytes(), rng):
            copy = shutil.copytree(folder, work / f"{tried}")
            (copy / inner).unlink() if content is None else (copy / inner).write_bytes(content)
            started = time.monotonic()
            found = outcome(load, copy)
            where = f"{inner}, {what}: {found}"
            assert time.monotonic() - started < LONGEST, where
            if isinstance(found, str):
                assert inner.name in found, where
            else:
                np.testing.assert_array_equal(found, expected, err_msg=where)
                right += 1
            tried += 1
            shutil.rmtree(copy)
    return tried, right


def outcome(load, folder):
    """The vectors, or the message of an error of ours; any other error ends the test."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load(folder)
    except EchoError as error:
        return str(error)


def vectors(folder):
    return EchoEncoder(folder, dtype="float32").encode_documents(TEXTS)


def test_a_saved_folder(saved, tmp_path):
    tried, right = fuzzed(*saved, tmp_path, vectors)
    assert tried >= 54
    assert right >= 18, "files of sentence-transformers do not matter to an encoder"


def test_a_saved_folder_through_sentence_transformers(saved, tmp_path):
    echo = pytest.importorskip("sentence_transformers_echo")

    def load(folder):
        return echo.load(folder, device="cpu").encode(TEXTS)

    tried, _ = fuzzed(*saved, tmp_path, load)
    assert tried >= 54


def test_an_adapter(adapters, tmp_path):
    tried, right = fuzzed(*adapters, tmp_path, vectors)
    assert tried >= 40
    assert right >= 12
