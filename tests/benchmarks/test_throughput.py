"""The benchmark's own numbers, computed by hand, and one real run of it on a tiny model.

``Timed`` stands for a contender only where its seconds must be known beforehand.
"""

import copy
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoTokenizer, BertConfig

from benchmarks.throughput import contender, contenders, curves, gpu, measure, plots, report, settings, shapes
from benchmarks.throughput import guest as guests
from benchmarks.throughput.__main__ import main
from benchmarks.throughput.clock import Clock
from benchmarks.throughput.contender import Contender, Place
from benchmarks.throughput.contenders import BASE, Field
from benchmarks.throughput.guest import Guest
from benchmarks.throughput.mixes import Mix, Prose, mixes, short_texts, tail_lengths
from tests import processes
from tests.architectures import tiny
from tests.benchmarks.doomed import dies, sleeps

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "bench"


class Timed:
    """As the benchmark sees a contender, but each call takes the seconds that ``cost`` gives for its texts."""

    tunable = False
    longest = None
    note = ""

    def __init__(self, name, cost, log=None, **facts):
        self.label, self.whole, self.curves, self.batch_size = name, False, True, 1
        self._cost, self._log = cost, [] if log is None else log
        self.__dict__ |= facts

    def seconds(self, texts):
        self._log.append((self.label, len(texts), self.batch_size))
        return self._cost(self, texts)

    def flops(self, texts):
        return 10.0 * len(texts), 1.0 * len(texts)

    def ran(self, texts):
        return 20.0 * len(texts), None


def field_of(*guests):
    return Field(Place("nowhere"), {guest.label: guest for guest in guests})


@pytest.fixture(scope="module")
def prose(builtin_folder):
    return partial(Prose, AutoTokenizer.from_pretrained(builtin_folder))


# --- texts ----------------------------------------------------------------------------------------------------------


def test_a_sample_has_texts_of_all_lengths_in_old_order():
    mix = Mix("m", list("abcdef"), [5, 1, 4, 2, 3, 6])
    assert mix.sample(3) == [2, 3, 5]  # of the ranks 0 to 5 the middles of three parts: 1, 3 and 5
    assert mix.sample(1) == [2]
    assert mix.sample(0) == []
    assert mix.sample(6) == mix.sample(9) == [0, 1, 2, 3, 4, 5]
    assert mix.tokens == 21


def test_the_long_tail_has_the_quantiles_of_its_distribution():
    # 150 x exp(1.1 z) at z of 0.1, 0.3, 0.5 and 0.7, and the longest.
    assert sorted(tail_lengths(5, 4000)) == [37, 84, 150, 267, 4000]
    assert sorted(tail_lengths(5, 100)) == [37, 84, 100, 100, 100]
    assert tail_lengths(32, 4000) == tail_lengths(32, 4000) != sorted(tail_lengths(32, 4000))


def test_the_mixes_are_the_same_every_time_and_as_long_as_they_say(prose):
    made = mixes(prose(), short=20, passages=4, tail=4, longest=300)
    assert made == mixes(prose(), short=20, passages=4, tail=4, longest=300)
    short, passages, tail = made
    assert all(len(text.split()) == 8 for text in short.texts)
    assert all(145 <= length <= 255 for length in passages.lengths)
    # The token at the cut may be counted in two, or as none where it is a newline.
    assert np.abs(np.subtract(tail.lengths, tail_lengths(4, 300))).max() <= 3
    texts = [text for mix in made for text in mix.texts]
    assert len(set(texts)) == len(texts) == 28


def test_prose_does_not_end_and_stays_distinct(prose, monkeypatch):
    monkeypatch.setattr(
        "benchmarks.throughput.mixes.docstrings", lambda: iter([" ".join(map(str, range(40))), "a b c"])
    )
    stream = prose()
    texts = [stream.take(10) for _ in range(5)]
    assert len(set(texts)) == 5


def test_mixes_of_no_text_are_left_out(prose):
    [mix] = mixes(prose(), short=0, passages=0, tail=0, longest=300, even=(3, 50))
    assert (mix.name, len(set(mix.texts))) == ("texts of 50 tokens", 3)
    assert all(48 <= length <= 52 for length in mix.lengths)


def test_texts_of_a_corpus_are_distinct():
    texts = [text for text, _ in zip(short_texts(), range(500), strict=False)]
    assert len(set(texts)) == 500


# --- what contenders compute --------------------------------------------------------------------------------------


def test_operations_are_counted_as_the_linear_layers_run_them():
    model = tiny("llama")
    matrices = [module.weight.numel() for module in model.layers.modules() if isinstance(module, nn.Linear)]
    parameters, width = contender._layer(model.config)
    assert (6 * parameters, width) == (sum(matrices), 4 * 8)
    with contender._counted(model) as total, torch.inference_mode():
        model(torch.ones(2, 5, dtype=torch.long))
        assert total() == 2 * 10 * sum(matrices)
    model(torch.ones(1, 1, dtype=torch.long))
    assert total() == 2 * 10 * sum(matrices)  # nothing is counted any more


@pytest.mark.parametrize(
    ("config", "parameters", "pair"),
    [
        # Queries and outputs, keys and values (of one head), a gated feed-forward part; half of the attention matrix.
        (SimpleNamespace(model_type="llama", num_key_value_heads=1), 2 * 64 + 2 * 32 + 3 * 8 * 16, 2),
        # No shared heads, no gate, and every token sees every other.
        (BertConfig(), 4 * 64 + 2 * 8 * 16, 4),
    ],
    ids=["causal", "bert"],
)
def test_operations_that_a_configuration_needs(config, parameters, pair):
    for name, value in {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}.items():
        setattr(config, name, value)
    config.get_text_config = lambda: config
    late_echo = SimpleNamespace(
        body=SimpleNamespace(config=config), runs=lambda texts: [(2, [3, 4]), (1, [6, 8])]
    )  # two layers on one copy, one on two
    linear, attention = Contender.flops(late_echo, ["a", "b"])
    assert linear == 2 * parameters * (2 * 7 + 1 * 14)
    assert attention == pair * 8 * (2 * (9 + 16) + 1 * (36 + 64))


def entry(**fields):
    given = {"flops": (80.0, 20.0), "needed": 80.0, "chosen": [0], "of": 1, "tokens": 1, "scale": 1.0}
    return measure.Entry(mix="m", contender="c", label="c", batch_size=None, **given | fields)


@pytest.mark.parametrize(
    ("ran", "padding", "credited"),
    [(100.0, 0.2, 100.0), (40.0, -1.0, 60.0), (None, None, 100.0)],
    ids=["padded", "saved", "not counted"],
)
def test_padding_is_a_share_of_what_ran_and_saved_work_is_not_credited(ran, padding, credited):
    made = entry(ran=ran)
    assert (made.padding, made.credited) == (pytest.approx(padding) if ran else None, credited)
    assert made.to_json()["padding"] == made.padding


# --- measuring ----------------------------------------------------------------------------------------------------


def test_the_batch_size_is_the_fastest_and_the_search_ends():
    cost, log = {1: 4.0, 2: 3.0, 4: 1.0, 8: 2.0, 16: 1.5, 32: 0.1}, []
    guest = Timed("st", lambda self, _: cost[self.batch_size], log)
    assert measure.best_batch_size(guest, ["a"] * 100, measure.Effort()) == 4
    assert [size for _, _, size in log] == [1, 1, 2, 2, 4, 4, 8, 16]  # the slower ones once; two of them are enough
    log.clear()
    assert measure.best_batch_size(guest, ["a"] * 2, measure.Effort()) == 2
    assert {size for _, _, size in log} == {1, 2}  # no larger batch than there are texts


def searched(cost, texts=100, first=8, **effort):
    log = []

    def seconds(self, _):
        if cost[self.batch_size] is None:
            raise RuntimeError("OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB")
        return cost[self.batch_size]

    effort = measure.Effort(batch_sizes=tuple(cost), first=first, **effort)
    best = measure.best_batch_size(Timed("st", seconds, log), ["a"] * texts, effort)
    return best, list(dict.fromkeys(size for _, _, size in log))


def test_a_search_from_the_middle_goes_up_then_down_and_survives_memory():
    falling = {1: 9.0, 2: 3.0, 4: 1.0, 8: 2.0, 16: 2.5, 32: 2.5}
    assert searched(falling) == (4, [8, 16, 32, 4, 2, 1])
    assert searched({4: 3.0, 8: 2.0, 16: 1.0, 32: None, 64: 0.1}) == (16, [8, 16, 32])
    assert searched({1: 1.0, 2: 2.0, 4: None, 8: None, 16: 0.1}) == (1, [8, 4, 2, 1])
    assert searched(falling, texts=3) == (4, [4, 2, 1])  # not more than the first that holds all texts
    assert searched(falling, search=0.0) == (8, [8])  # no time for more than one
    with pytest.raises(RuntimeError, match="batches of 8 do not fit into memory, nor smaller ones"):
        searched({4: None, 8: None})


def test_a_search_does_not_take_another_failure_for_memory():
    def breaks(*_):
        raise RuntimeError("ValueError: bad text")

    with pytest.raises(RuntimeError, match="bad text"):
        measure.best_batch_size(Timed("st", breaks), ["a"], measure.Effort())


def test_a_slow_contender_runs_as_many_texts_as_it_can_afford():
    mix = Mix("m", [f"text {i}" for i in range(10)], [100] * 10)
    guest = Timed("slow", lambda _, texts: float(len(texts)))
    assert len(measure._affordable(guest, mix, cap=7.5)) == 7
    assert measure._affordable(guest, mix, cap=100) == list(range(10))
    assert len(measure._affordable(guest, mix, cap=0.5)) == 4


def test_a_sample_is_judged_by_enough_texts_to_fill_a_machine():
    mix = Mix("m", [f"text {i}" for i in range(200)], [100] * 200)
    log = []
    # Up to 50 texts at once take no longer than one; four alone would say that 200 take 12.5 times their time.
    guest = Timed("gpu", lambda _, texts: max(1.0, len(texts) / 50), log)
    assert len(measure._affordable(guest, mix, cap=9.0)) == 200
    assert [count for _, count, _ in log] == [4, 4, 16, 16, 64, 64]


def test_a_table_is_interleaved_scaled_and_goes_on_without_who_fails(monkeypatch):
    monkeypatch.setattr(measure, "PEAK_SIZES", (32,))
    mix = Mix("m", ["a", "b", "c", "d", "e"], [10, 10, 10, 10, 60])
    log = []
    calls = iter(range(100))

    def fails_later(*_):
        if next(calls) > 2:  # behind the first round
            raise ValueError("out | of memory\nand more")
        return 1.0

    guests = [
        Timed("whole", lambda *_: 2.0, log, whole=True, longest=20),
        Timed("sampled", lambda _, texts: float(len(texts)), log),
        Timed("broken", fails_later, log, whole=False),
    ]
    field = field_of(*guests)
    made = measure.table(field, mix, measure.Effort(rounds=3, cap=0.1))
    rounds = [name for name, _, _ in log[-8:]]  # before them: four times to choose samples, no call in _prepare else
    assert rounds == ["whole", "sampled", "broken", "sampled", "broken", "whole", "whole", "sampled"]
    whole, sampled = made["entries"]
    # It reads 20 tokens of the longest; the sample has four texts of the five.
    assert (whole["tokens"], whole["scale"], whole["seconds"]) == (60, 1.0, [2.0, 2.0, 2.0])
    tokens = sum(mix.lengths[i] for i in sampled["chosen"])
    assert sampled["seconds"] == [pytest.approx(4 * 100 / tokens)] * 3
    assert (whole["padding"], whole["credited"]) == (0.5, 55.0)
    assert len(made["peaks"]) == 3
    assert field.failures == [{"contender": "broken", "stage": "m", "reason": "ValueError: out | of memory"}]


class Ticking(Clock):
    """A clock of so many looks at it."""

    def __init__(self, looks):
        super().__init__(1.0)
        self._looks = iter([1.0] * looks)

    @property
    def left(self):
        return next(self._looks, -1.0)


def test_a_round_that_time_cuts_short_counts_for_nobody(monkeypatch):
    monkeypatch.setattr(measure, "PEAK_SIZES", (32,))
    mix = Mix("m", ["a", "b"], [10, 10])
    field = field_of(*(Timed(name, lambda *_: 1.0, whole=True) for name in "ab"))
    field.clock = Ticking(5)  # two preparations, a round, and the first of the second
    made = measure.table(field, mix, measure.Effort(rounds=3))
    assert [entry["seconds"] for entry in made["entries"]] == [[1.0], [1.0]]
    assert len(made["peaks"]) == 1
    assert field.failures == [{"contender": "all that follow", "stage": "m", "reason": "no time was left"}]
    field.clock = Ticking(3)
    assert measure.table(field, mix, measure.Effort(rounds=3))["entries"] == []
    # When a mix's own time is over, who is prepared has one round.
    field.clock = Clock()
    made = measure.table(field, mix, measure.Effort(rounds=3), Clock(0.0))
    assert [(entry["contender"], len(entry["seconds"])) for entry in made["entries"]] == [("a", 1)]


def test_a_clock_is_shared_among_parts():
    now = [100.0]
    clock = Clock(50.0, lambda: now[0])
    part = clock.part(2, keep=10)
    assert (clock.left, part.left, part.is_over) == (50.0, 20.0, False)
    now[0] = 130.0
    assert (clock.left, part.is_over, clock.part(4, keep=30).left) == (20.0, True, 0.0)
    assert Clock().part(3, keep=10).left == float("inf")


def test_cosines_come_to_the_entries_of_their_mixes():
    texts = [Mix("m", ["a", "b"], [1, 2]), Mix("n", ["c"], [3]), Mix("not measured", ["d"], [4])]
    guest = Timed("a", None, cosines=lambda samples: [0.9 + 0.01 * len(sample) for sample in samples])
    tables = [{"name": name, "entries": [{"contender": own} for own in "ab"]} for name in "mn"]
    measure.cosines(field_of(guest), texts, tables, 2)
    assert [table["entries"] for table in tables] == [
        [{"contender": "a", "cosine": 0.92}, {"contender": "b"}],
        [{"contender": "a", "cosine": 0.91}, {"contender": "b"}],
    ]


def test_latency_leaves_the_first_calls_out():
    taken = iter([99.0] * 5 + [float(i) for i in range(1, 12)])
    [row] = curves.latency(field_of(Timed("a", lambda *_: next(taken))), queries=11)
    assert (row["p50"], row["p95"], len(row["seconds"])) == (6.0, 10.5, 11)


def test_curves_of_length(prose):
    log = []
    turns = iter([9.0, 1.0, 4.0, 2.0] * 2)  # the first is the warm run; the median of the others is 2
    guests = [
        Timed("st", lambda *_: next(turns), log, tunable=True, batch_size=4),
        Timed("minilm", lambda *_: 1.0, longest=16),
        Timed("slow", lambda *_: 1.0, curves=False),
    ]
    points = curves.by_length(field_of(*guests), prose(), [8, 16], tokens=32, rounds=3)
    assert [(point["contender"], point["length"], point["texts"]) for point in points] == [
        ("st", 8, 4),
        ("minilm", 8, 4),
        ("st", 16, 2),
    ]
    assert points[0]["seconds"] == [1.0, 4.0, 2.0]
    assert points[0]["tokens_per_second"] == points[0]["tokens"] / 2
    # As many tokens in a batch as 4 passages of 200 have; afterwards it is as before.
    assert [size for _, _, size in log] == [100] * 4 + [50] * 4
    assert guests[0].batch_size == 4


def test_corpora_that_would_take_too_long_are_left_out():
    points = curves.by_corpus(field_of(Timed("a", lambda _, texts: float(len(texts)))), [2, 4, 8], cap=5.0)
    assert [(point["texts"], point.get("texts_per_second"), point.get("skipped")) for point in points] == [
        (2, 1.0, None),
        (4, 1.0, None),
        (8, None, "would take about 8 s"),
    ]


def test_a_process_that_dies_is_noted():
    field = field_of()
    assert field.attempt("dies", "load", Guest(dies, Place("nowhere")).load) is None
    reason = "RuntimeError: its process ended with exit status 3"
    assert field.failures == [{"contender": "dies", "stage": "load", "reason": reason}]


def test_an_answer_is_not_awaited_when_the_time_is_over(monkeypatch):
    monkeypatch.setattr(guests, "_GRACE", 0.1)
    guest = Guest(sleeps, Place("nowhere"), Clock(0.0))
    with pytest.raises(RuntimeError, match="it did not answer before the time was over"):
        guest.load()
    with pytest.raises(RuntimeError, match="its process ended with exit status -9"):
        guest.seconds(["a"])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_all_are_asked_for_what_no_clock_runs_for(device):
    class Said(Timed):
        def send(self, method, *arguments):
            self.said = getattr(self, method)(*arguments)

        def answer(self):
            if self.said == 0:
                raise RuntimeError("broken")
            return self.said

    field = field_of(*(Said(str(cost), lambda self, texts: len(texts) * int(self.label)) for cost in range(3)))
    field.place = Place("nowhere", device)
    found = field.gather("stage", "seconds", ["a", "b"])
    assert {name: seconds for name, seconds in found.items() if seconds} == {"1": 2, "2": 4}
    assert len(field.failures) == (1 if field.is_parallel else 0)


def test_peak_memory_is_that_of_the_process_and_stays():
    code = (
        "from benchmarks.throughput.memory import high_water\n"
        "before = high_water()\nblock = b'x' * (64 << 20)\nduring = high_water()\ndel block\n"
        "print(during - before, high_water() - during)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    grown, after = map(float, done.stdout.split())
    assert 60 < grown < 70
    assert abs(after) < 1  # what the kernel says is a little stale at times


def test_random_weights_are_those_of_the_seed_in_any_dtype(builtin_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = shapes.folder("tiny", builtin_folder)
    assert not list(folder.glob("*.safetensors"))
    config = AutoConfig.from_pretrained(folder)
    assert config.vocab_size == len(AutoTokenizer.from_pretrained(folder))
    half, same = (shapes.made(config, "cpu", dtype) for dtype in (None, "bfloat16"))
    whole = shapes.made(config, "cpu", torch.float32, attn_implementation="eager")
    assert (half.dtype, whole.dtype, whole.config.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    assert whole.config._attn_implementation == "eager"
    assert not half.training
    assert half.rotary_emb.inv_freq.dtype == whole.rotary_emb.inv_freq.dtype == torch.float32
    for a, b, c in zip(half.parameters(), same.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a.float(), c)
    assert half.layers[0].mlp.up_proj.weight.float().std().item() == pytest.approx(0.02, rel=0.1)


def test_without_a_gpu_nothing_is_said_of_one():
    assert (gpu.in_use(), gpu.peak(), gpu.trim(0), gpu.about("cpu"), gpu.kept("cpu", 3)) == (
        False,
        None,
        False,
        {},
        float("inf"),
    )
    gpu.wait()
    gpu.reset_peak()


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA L4", None),
    ],
)
def test_the_datasheet_of_a_card(name, rate):
    assert gpu.datasheet(name) == rate


# --- what is said of it -------------------------------------------------------------------------------------------


def measured(name, seconds, **fields):
    given = {"tokens": 100, "of": 4, "chosen": [0, 1, 2, 3], "batch_size": None, "padding": None, "cosine": None}
    return {"contender": name, "label": name, "seconds": seconds, "credited": 10.0} | given | fields


@pytest.fixture
def result():
    entries = [
        measured(BASE, [2.0, 4.0, 6.0], batch_size=8, padding=0.25),
        measured("ours-echo", [2.0, 1.0, 2.0], cosine=0.99987, chosen=[0, 2], padding=-0.1),
    ]
    mix = {"name": "passages", "texts": 4, "lengths": [10, 20, 30, 40], "peaks": [10.0] * 3, "entries": entries}
    about = {"cpu": "A CPU", "cores": 2, "threads": 2, "device": "cpu", "bf16_peak": 9e11, "float32_peak": 2e11}
    return {
        "date": "2026-11-20 20:35 UTC",
        "command": "python -m benchmarks.throughput",
        "commit": "abc",
        "machine": about | {"load": [0.1, 0.2, 0.3]},
        "versions": {"torch": "2.13", "transformers": "5.23", "sentence-transformers": "6.2"},
        "rounds": 3,
        "mixes": [mix],
        "memory": {"ours-echo": {"loaded": 500.0, "passages": 600.4}},
        "latency": [{"contender": "ours-echo", "label": "ours-echo", "p50": 0.0351, "p95": 0.05}],
        "lengths": [
            {"contender": "ours-echo", "label": "ours-echo", "length": 8, "tokens_per_second": 1000.4},
            {"contender": "ours-echo", "label": "ours-echo", "length": 16, "tokens_per_second": 2000.0},
            {"contender": BASE, "label": BASE, "length": 8, "tokens_per_second": 500.0},
        ],
        "corpora": [
            {"contender": BASE, "label": BASE, "texts": 100, "texts_per_second": 40.0},
            {"contender": BASE, "label": BASE, "texts": 1000, "skipped": "would take about 25 s"},
        ],
        "failures": [{"contender": "plain-loop", "stage": "load", "reason": "TypeError: str | None"}],
    }


def test_ratios_and_shares_are_medians_over_rounds(result):
    [mix] = result["mixes"]
    assert report.ratio(mix, "ours-echo", BASE) == 3.0  # of 1, 4 and 3; the ratio of the medians is 2
    assert report.ratio(mix, BASE, "ours-echo") == pytest.approx(1 / 3)
    assert report.ratio(mix, "ours-echo", "nobody") is None
    assert report.share(mix, mix["entries"][1]) == 0.5  # of 1/2, 1 and 1/2


def test_a_report_of_known_numbers(result):
    lines = report.markdown(result).splitlines()
    for line in (
        "# Throughput, 2026-11-20 20:35 UTC",
        "## Passages (4 texts, 10 to 40 tokens, 100 in all)",
        f"| {BASE} | 1.0 | 25 | 1.00 | 25% | 25% | n/a | n/a | 8 |  |",
        "| ours-echo | 2.0 | 50 | 3.00 | 50% | -10% | 600 | 0.99987 | own | sampled 2/4 |",
        f"| ours-echo over {BASE} | 1.50 | 3.00 |",
        "| ours-echo, share of peak | 60% (passages) | 50% |",
        "| ours, smallest cosine | 0.99900 | 0.99987 |",
        "| ours-echo | 35.1 | 50.0 |",
        "| contender | 8 | 16 |",
        "| ours-echo | 1000 | 2000 |",
        f"| {BASE} | 500 |  |",
        f"| {BASE} | 40 | would take about 25 s |",
        "| plain-loop | load | TypeError: str \\| None |",
    ):
        assert line in lines
    assert not [line for line in lines if "plain-loop over" in line or "ours-default" in line]
    assert all(line.endswith("|") for line in lines if line.startswith("|"))


def test_a_report_of_a_gpu(result):
    result["machine"] |= {"bf16_peak": 791.2e12, "float32_peak": 51e12, "gpu_memory": 80.0, "datasheet": 989e12}
    [mix] = result["mixes"]
    mix["entries"][0] |= {"credited": 989e12, "gpu_memory": 4321.0, "note": ""}
    mix["entries"][1] |= {"note": "packed", "peaks": [10.0, 20.0], "seconds": [2.0, 1.0]}
    result["mixes"].append(mix | {"name": "not measured", "entries": []})
    lines = report.markdown(result).splitlines()
    head = (
        "| contender | texts/s | tokens/s | ratio | share of peak | of datasheet | padding | memory | cosine | batch |"
    )
    assert f"{head}  |" in lines
    # Its two rounds are held against the first two of the base, and against their own peaks.
    assert "| ours-echo | 2.7 | 67 | 2.50 | 50% | 0% | -10% | 600 | 0.99987 | own | sampled 2/4, packed |" in lines
    assert any(line.startswith(f"| {BASE} | 1.0 | 25 | 1.00 |") and "| 25% | 25% | 4321 |" in line for line in lines)
    assert any(
        line.startswith("bf16 matrix peak 791 TFLOP/s (80% of the datasheet's 989), float32 51.") for line in lines
    )
    assert any(line.startswith("- One contender after the other") for line in lines)
    assert not [line for line in lines if "high-water mark" in line or "Not measured" in line]
    assert sum(line.startswith("- *cosine*") for line in lines) == 1


def test_the_published_tables_are_those_of_the_published_numbers():
    numbers = json.loads((PUBLISHED / "results.json").read_text())
    assert report.markdown(numbers) == (PUBLISHED / "results.md").read_text()


def test_plots_come_from_the_numbers_alone(tmp_path, result):
    pytest.importorskip("matplotlib")
    assert plots.draw(result, tmp_path) == [tmp_path / "throughput.svg", tmp_path / "length.svg"]
    drawn = [path.read_bytes() for path in plots.draw(result, tmp_path)]
    text = drawn[0].decode()
    shown = ("ours-echo", ">50<", ">25<", "content tokens/s", "2026-11-20, A CPU, 2 cores")
    assert all(words in text for words in shown)
    again = tmp_path / "again"
    again.mkdir()
    assert [path.read_bytes() for path in plots.draw(result, again)] == drawn
    failed = copy.deepcopy(result) | {"lengths": []}
    failed["mixes"].append(failed["mixes"][0] | {"name": "long tail", "entries": []})
    assert plots.draw(failed, tmp_path) == [tmp_path / "throughput.svg"]
    assert (tmp_path / "throughput.svg").read_text().count(">n/a<") == 2


def test_without_matplotlib_there_are_no_plots(tmp_path, result, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert plots.draw(result, tmp_path) == []
    assert "no plots: matplotlib is not installed (pip install --group bench)" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


# --- the command --------------------------------------------------------------------------------------------------


def test_options_go_over_the_quick_run_or_the_full_one():
    full = settings.parse(["--only", "a,b", "--sizes", "1e3,100", "--no-memory"], None)
    assert (full.only, full.sizes, full.memory, full.rounds) == (["a", "b"], [100, 1000], False, 5)
    quick = settings.parse(["--quick", "--rounds", "3", "--lengths", ""], None)
    assert (quick.rounds, quick.lengths, quick.short, quick.memory) == (3, [], settings.QUICK.short, False)
    assert quick.out != full.out == Path("docs/bench")
    small, large = (settings.parse(["--gpu", *more], None) for more in ([], ["--shape", "mistral-7b", "--even", "3"]))
    assert (small.device, small.one_by_one, small.even, small.effort.first) == ("cuda", False, 0, 64)
    assert (large.device, large.one_by_one, large.even, large.effort.batch_sizes[-1]) == ("cuda", True, 3, 128)
    assert set(small.only) <= set(contenders.factories())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "argument --rounds: 0 is less than 1"),
        (["--lengths", "8,0"], "argument --lengths: 0 is less than 1"),
        (["--shape", "huge"], "argument --shape: invalid choice: 'huge'"),
        (["--short", "0", "--passages", "0", "--tail", "0"], "there is no text: one of --short, --passages, --tail"),
        (["--first-batch", "3"], "--first-batch 3 is not among --batch-sizes"),
    ],
)
def test_bad_options(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        settings.parse(arguments, None)
    assert message in capsys.readouterr().err


def test_an_unknown_contender_is_named_before_anything_is_measured(tmp_path):
    with pytest.raises(SystemExit, match="no contender 'ours-ehco'; there are plain-loop, st-echo-stock"):
        main(["--only", "ours-echo,ours-ehco", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def benchmark(options, tmp_path):
    script = (
        "import sys; from benchmarks.throughput import measure; from benchmarks.throughput.__main__ import main\n"
        "measure.PEAK_SIZES = (256,)  # of these sizes the peak means little, and takes no time\n"
        "main(sys.argv[1:])"
    )
    env = os.environ | {"TMPDIR": str(tmp_path), "OMP_WAIT_POLICY": "passive"}
    done = processes.run(script, *options.split(), cwd=ROOT, env=env, timeout=900)
    assert done.returncode == 0, done.stderr
    return done


def test_a_real_run(builtin_folder, tmp_path):
    sizes = "--short 6 --passages 2 --tail 3 --longest 120 --rounds 2 --cosines 1 --queries 2 --no-memory"
    spread = "--lengths 8 --length-tokens 16 --length-rounds 1 --sizes 4"
    names = [BASE, "ours-classical"]
    done = benchmark(f"--shape tiny --only {','.join(names)} {sizes} {spread} --out {tmp_path}", tmp_path)
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["failures"] == []
    assert [(mix["name"], mix["texts"]) for mix in result["mixes"]] == [
        ("short queries", 6),
        ("passages", 2),
        ("long tail", 3),
    ]
    for mix in result["mixes"]:
        assert [entry["contender"] for entry in mix["entries"]] == names
        for own in mix["entries"]:
            assert len(own["seconds"]) == len(mix["peaks"]) == 2
            assert min(own["seconds"]) > 0
            assert own["tokens"] == sum(mix["lengths"])
            assert own["cosine"] > 0.999
            assert own["padding"] < 0.9
        assert mix["entries"][0]["padding"] >= 0  # ours may save work, this one cannot
        # An echo reads every text twice, and the words around it.
        echo, classical = (own["flops"][0] for own in mix["entries"])
        assert 1.5 < echo / classical < 3
    for kind in ("lengths", "latency", "corpora"):
        assert [point["contender"] for point in result[kind]] == names
    written = (tmp_path / "results.md").read_text()
    assert written == report.markdown(result)
    assert written in done.stdout
    drawn = {"throughput.svg", "length.svg"} if importlib.util.find_spec("matplotlib") else set()
    assert {path.name for path in tmp_path.glob("*.svg")} == drawn


@pytest.mark.slow  # the run above is the quick one
def test_a_real_run_one_by_one_with_a_budget(builtin_folder, tmp_path):
    sizes = "--short 3 --even 3 --even-tokens 20 --rounds 1 --cosines 1 --queries 2 --budget 400"
    names = [BASE, "ours-late-echo"]
    more = f"--gpu --device cpu --shape tiny --tokenizer {builtin_folder} --only {','.join(names)}"
    done = benchmark(f"{more} {sizes} --out {tmp_path / 'out'}", tmp_path)
    assert (tmp_path / "out" / "results.md").read_text() in done.stdout
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["failures"] == []
    assert [mix["name"] for mix in result["mixes"]] == ["short queries", "texts of 20 tokens"]
    for mix in result["mixes"]:
        assert [entry["contender"] for entry in mix["entries"]] == names
        for own in mix["entries"]:
            assert len(own["seconds"]) == len(own["peaks"]) == 1
            assert own["cosine"] > 0.999
    assert [row["contender"] for row in result["latency"]] == names
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "results.md"}
    assert (tmp_path / "out" / "results.md").read_text() == report.markdown(result)
