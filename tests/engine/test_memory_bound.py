"""Streaming holds one window of texts and vectors, however many there are; a document a batch, however long it is."""

import sys

import pytest
from transformers import AutoTokenizer

from tests import processes
from tests.architectures import tiny

MANY, SOME = 1_000_000, 8_000
#: What a process may grow by after its first window. 500 is promised; but the vectors of a million texts that were
#: kept, 32 numbers each, would be 128, so 500 would not show them.
ALLOWED_MB = 100

# Memory is a property of a process, so each count gets its own.
SCRIPT = """
import sys
from pathlib import Path
from echo_embeddings import EchoEncoder
from echo_embeddings.text.inputs import CHUNK

def megabytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

WORDS = "tide ferry oven bread moon harbour ledger winter copper garden signal orbit".split()

def texts(count):
    for i in range(count):
        yield " ".join([str(i)] + [WORDS[(i // 7**k) % len(WORDS)] for k in range(1 + i % 4)])

count = int(sys.argv[2])
encoder = EchoEncoder(sys.argv[1], "late-echo", dtype="float32", device="cpu")
for done, vector in enumerate(encoder.stream_documents(texts(count)), start=1):
    assert vector.shape == (32,)
    if done == CHUNK:
        first = megabytes("VmRSS")
    if done % (50 * CHUNK) == 0:
        print(done, round(megabytes("VmRSS")), file=sys.stderr, flush=True)
assert done == count
# The peak of the whole run is that of every moment, also within a window.
print(first, megabytes("VmHWM") - first, megabytes("VmRSS") - first)
"""


@pytest.fixture(scope="module")
def folder(builtin_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny("llama", vocab_size=49152).save_pretrained(folder)
    AutoTokenizer.from_pretrained(builtin_folder).save_pretrained(folder)
    return str(folder)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")
@pytest.mark.parametrize("count", [SOME, pytest.param(MANY, marks=pytest.mark.slow)])
def test_streaming_keeps_memory_bounded(folder, count):
    done = processes.run(SCRIPT, folder, count, timeout=1800)
    assert done.returncode == 0, done.stderr
    first, most, end = map(float, done.stdout.split())
    assert most < ALLOWED_MB, f"{first:.0f} MB after the first window, at most {most:.0f} more, {end:.0f} at the end"


#: Tokens of the long document, and of the one before it, after which memory is taken to be what it needs. Token states
#: of the long one that were kept would be 512 numbers each: 32 MB.
LONG, SHORT = 16_384, 4_096
ALLOWED_FOR_LENGTH_MB = 16

LONG_SCRIPT = """
import sys
from pathlib import Path
from echo_embeddings import EchoConfig, EchoEncoder

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

sentence = "The ferry leaves the island at dawn. "
config = EchoConfig("{text}\\n{text}", start_layer=1, max_length=256)
encoder = EchoEncoder(sys.argv[1], config, dtype="float32", device="cpu", on_truncate="split", batch_tokens=2048)
for tokens in map(int, sys.argv[2:]):
    document = sentence * (tokens // encoder.count_tokens(sentence)[0])
    starts = range(0, len(document), len(sentence))
    assert len(encoder.encode_chunks(document, [(start, start + 36) for start in starts])) == len(starts)
    encoder.encode_documents([document])
    print(peak())
"""


@pytest.mark.slow  # quick: test_chunks.py, of what is kept of a batch
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")
def test_memory_does_not_grow_with_a_document(builtin_folder, tmp_path):
    wide = {"hidden_size": 512, "intermediate_size": 512, "num_attention_heads": 8, "num_key_value_heads": 8}
    tiny("llama", vocab_size=49152, num_hidden_layers=3, **wide).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(builtin_folder).save_pretrained(tmp_path)
    done = processes.run(LONG_SCRIPT, tmp_path, SHORT, LONG, timeout=1800)
    assert done.returncode == 0, done.stderr
    short, long = map(float, done.stdout.split())
    assert long - short < ALLOWED_FOR_LENGTH_MB
