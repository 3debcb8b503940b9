"""``echo-embeddings embed --engine ray``: its options reach ``embed_folder``, and its answer is said."""

import json

import pytest
import ray
from typer.testing import CliRunner

from echo_embeddings.cli.app import app
from echo_embeddings.distributed import ray as on_ray


@pytest.fixture
def called(monkeypatch):
    """Calls of Ray and of ``embed_folder``, which are not carried out."""
    calls = []

    def embed_folder(*arguments, **options):
        calls.append((arguments, options))
        return on_ray.EmbeddedFolder("out", 4, 1000, 200, 3, 32, 5, 70, 12.34)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(on_ray, "embed_folder", embed_folder)
    monkeypatch.setattr(ray, "init", lambda **options: calls.append(options))
    monkeypatch.setattr(ray, "shutdown", lambda: calls.append("shutdown"))
    return calls


def run(*arguments, code=0):
    done = CliRunner().invoke(app, ["embed", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


def test_the_options_reach_the_job(called):
    done = run("s3://bucket/in", "s3://bucket/out", "--engine", "ray", "--address", "head:6379", "--workers", 3)
    init, ((source, target, options), more), end = called
    assert (init, end) == ({"address": "head:6379"}, "shutdown")
    assert (source, target, options.on_truncate) == ("s3://bucket/in", "s3://bucket/out", "ignore")
    assert more["workers"] == 3
    assert more["on_error"] == "raise"
    assert "checkpoint_rows" not in more
    assert "out: 1000 vectors of 32 dimensions in 4 files, in 12.3 s, 200 of them from an earlier run" in done.stdout
    said = " ".join(done.stderr.split())
    assert "5 text(s) were truncated; 70 tokens were not read" in said
    assert "3 row(s) were left out; out/_skipped.jsonl says which, and why" in said


def test_what_a_machine_reads(called):
    done = run(
        "in", "out", "--engine", "ray", "--on-error", "skip", "--checkpoint-rows", 2048, "--json", "--role", "query"
    )
    assert called[0] == {"address": "local", "include_dashboard": False}
    more = called[1][1]
    assert (more["on_error"], more["checkpoint_rows"], more["role"]) == ("skip", 2048, "query")
    found = json.loads(done.stdout)
    assert (found["rows"], found["files"], found["skipped"], found["resumed_from"]) == (1000, 4, 3, 200)


def test_no_ray_at_an_address(monkeypatch):
    def init(**_):
        raise ConnectionError("nobody there")

    monkeypatch.setattr(ray, "init", init)
    said = " ".join(run("in", "out", "--engine", "ray", "--address", "head:1", code=1).stderr.split())
    assert said == "error: --address head:1: no Ray answers there (nobody there); start one, or leave it out"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--workers", 2), "--workers 2 is for --engine ray; leave it out, or add that"),
        (("--on-error", "skip"), "--on-error skip is for --engine ray; leave it out, or add that"),
        (("--engine", "ray", "--format", "csv"), "--format csv is for files; --engine ray reads folders of .parquet"),
    ],
)
def test_options_that_do_not_go_together(arguments, said):
    assert said in " ".join(run("in.txt", "out.npy", *arguments, code=1).stderr.split())
