"""The built-in model under the load of 64 clients: no error, level memory, and nearly the encoder's own speed."""

import asyncio
import os
import random
import re
import statistics
import time

import httpx
import pytest

from tests.server.running import running

NAME = "SmolLM2-135M-Instruct"
CLIENTS, SECONDS, WARM = 64, 60, 10
SIZES = [1] * 6 + [4, 8, 32]
WORDS = [
    "the",
    "ferry",
    "leaves",
    "island",
    "at",
    "dawn",
    "and",
    "bread",
    "rises",
    "in",
    "a",
    "warm",
    "room",
    "while",
    "nobody",
    "had",
    "read",
    "the",
    "long",
    "budget",
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def loaded(builtin_folder, tmp_path_factory):
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))}
    with running(None, tmp_path_factory.mktemp("load") / "log", "--max-queue", "100000", env=threads) as server:
        yield server


def texts(chance, count):
    return [" ".join(chance.choices(WORDS, k=chance.randint(5, 60))) for _ in range(count)]


def tokens(answer):
    return int(re.search(rb'"prompt_tokens":(\d+)', answer.content[-80:])[1])


async def send(client, url, seed, until, answered):
    chance = random.Random(seed)
    while time.monotonic() < until:
        body = {"model": NAME, "input": texts(chance, chance.choice(SIZES)), "encoding_format": "base64"}
        answer = await client.post(f"{url}/v1/embeddings", json=body)
        assert answer.status_code == 200, answer.text
        answered.append(tokens(answer))


async def resident(client, url, until, found):
    while time.monotonic() < until:
        page = (await client.get(f"{url}/metrics")).text
        found.append(float(re.search(r"^process_resident_memory_bytes (\S+)$", page, re.MULTILINE)[1]) / 2**20)
        await asyncio.sleep(1)


async def load(url):
    """Tokens a second, and the megabytes of each second."""
    answered, found, started = [], [], time.monotonic()
    until = started + SECONDS
    limits = httpx.Limits(max_connections=CLIENTS + 1)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:
        clients = [send(client, url, seed, until, answered) for seed in range(CLIENTS)]
        await asyncio.gather(resident(client, url, until, found), *clients)
    return sum(answered) / (time.monotonic() - started), len(answered), found


def test_64_clients_for_a_minute(loaded, builtin_encoder):
    sample = texts(random.Random(0), 400)
    count = sum(builtin_encoder.count_tokens(sample))
    builtin_encoder.encode_documents(sample[:20])
    started = time.perf_counter()
    builtin_encoder.encode_documents(sample)
    alone = count / (time.perf_counter() - started)
    rate, requests, memory = asyncio.run(load(loaded.url))
    print(f"{requests} requests, {rate:.0f} tokens/s of {alone:.0f} ({rate / alone:.2f}); MB: {memory}")  # noqa: T201
    assert not loaded.events("error")
    assert {line["status"] for line in loaded.events()} == {200}
    early, late = memory[WARM : WARM + 10], memory[-10:]
    assert statistics.mean(late) < statistics.mean(early) + 30
    assert rate > 0.8 * alone


def test_a_lone_query_takes_hardly_longer_than_the_encoder_s_own(loaded, builtin_encoder):
    served, own = [], []
    queries = texts(random.Random(1), 100)
    with httpx.Client() as client:
        for i, query in enumerate(queries):
            started = time.perf_counter()
            body = {"model": f"{NAME}:query", "input": query, "encoding_format": "base64"}
            assert client.post(f"{loaded.url}/v1/embeddings", json=body).status_code == 200
            between = time.perf_counter()
            builtin_encoder.encode_queries(query)
            if i >= 10:
                served.append(between - started)
                own.append(time.perf_counter() - between)
    p95, p95_own = (statistics.quantiles(times, n=20)[-1] for times in (served, own))
    medians = [f"{1000 * statistics.median(times):.1f}" for times in (served, own)]
    print(f"p95 {1000 * p95:.1f} ms, {1000 * p95_own:.1f} ms of the encoder; medians {medians}")  # noqa: T201
    assert p95 - p95_own < 0.010
