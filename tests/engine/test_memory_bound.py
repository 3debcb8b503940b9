"""Streaming holds one window of texts and vectors, however many texts there are."""

import sys

import pytest
from transformers import AutoTokenizer

from tests import processes
from tests.architectures import tiny

MANY, SOME = 1_000_000, 20_000
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
