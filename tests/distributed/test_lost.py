"""A cluster of three nodes that loses a worker, a node, or the driver, while it embeds.

ECHO_EMBEDDINGS_RAY_ROWS says how many texts there are (200,000 without it).
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.distributed.conftest import PATHS, texts_of
from tests.distributed.test_ray_folder import write

pytestmark = pytest.mark.slow

ROWS = int(os.environ.get("ECHO_EMBEDDINGS_RAY_ROWS", "200000"))
CHECKPOINT = max(256, min(4096, ROWS // 20))
PATIENCE = 900

_DRIVER = """
import json, resource, sys, ray
from echo_embeddings import EncoderOptions
from echo_embeddings.distributed.ray import embed_folder
address, model, source, target, rows = sys.argv[1:]
ray.init(address=address, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
options = EncoderOptions(model=model, config="echo", device="cpu", dtype="float32", max_length=64)
done = embed_folder(source, target, options, checkpoint_rows=int(rows), num_cpus=1)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
print(json.dumps({"rows": done.rows, "resumed": done.resumed_from, "seconds": done.seconds, "peak": peak}))
"""


@dataclass
class Lab:
    """Three nodes of one CPU each, texts, and what one machine makes of them."""

    cluster: object
    model: Path
    source: Path
    expected: np.ndarray
    nodes: list = field(default_factory=list)
    peak: float = 0.0

    def start(self, target):
        arguments = [self.cluster.address, self.model, self.source, target, CHECKPOINT]
        return subprocess.Popen(
            [sys.executable, "-c", _DRIVER, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for_outputs(self, driver, target, count):
        end = time.monotonic() + PATIENCE
        while len(list(target.glob("*.parquet"))) < count:
            assert driver.poll() is None, driver.communicate()[1][-3000:]
            assert time.monotonic() < end
            time.sleep(0.05)

    def finish(self, driver, target):
        """Let the driver end; returns what it says, and checks that no row is lost, doubled or another."""
        end = time.monotonic() + PATIENCE
        while driver.poll() is None and time.monotonic() < end:
            self.peak = max([self.peak, *(memory(worker) for worker in self.workers())])
            time.sleep(0.5)
        out, err = driver.communicate(timeout=5)
        assert driver.returncode == 0, err[-3000:]
        said = json.loads(next(line for line in out.splitlines() if line.startswith("{")))  # Ray may print behind it
        table = pq.read_table(target).sort_by("id")
        assert table["id"].to_pylist() == list(range(ROWS))
        assert table["text"].to_pylist() == texts_of(ROWS)
        vectors = table["embedding"].combine_chunks().values.to_numpy().reshape(ROWS, -1)
        np.testing.assert_allclose(vectors, self.expected, atol=1e-5)
        assert said["rows"] == ROWS
        print(f"\n{ROWS} rows: {said}; the largest worker had {self.peak:.0f} MiB")  # noqa: T201 - figures for the log
        assert said["peak"] < 1500
        assert self.peak < 1500
        return said

    def workers(self):
        """Processes of this cluster's actors, by the title that Ray gives them."""
        raylets = {process.process.pid for node in self.nodes for process in node.all_processes.get("raylet", [])}
        return [pid for pid in processes() if "MapWorker" in title(pid) and parent(pid) in raylets]


def processes():
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def title(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def status(pid, name):
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return "0"
    return next((line.split()[1] for line in lines if line.startswith(f"{name}:")), "0")


def parent(pid):
    return int(status(pid, "PPid"))


def memory(pid):
    """The most MiB that a process has had."""
    return int(status(pid, "VmHWM")) / 2**10


@pytest.fixture(scope="module")
def lab(tiny_folder, tiny_encoder, tmp_path_factory):
    from ray.cluster_utils import Cluster

    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", PATHS)
    folder = tmp_path_factory.mktemp("lab")
    texts = write(folder / "in", ROWS, 5)
    memory_of_store = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **memory_of_store})
    lab = Lab(cluster, tiny_folder, folder / "in", tiny_encoder.encode_documents(texts), [cluster.head_node])
    lab.nodes += [cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20) for _ in range(2)]
    cluster.wait_for_nodes()
    yield lab
    cluster.shutdown()
    patch.undo()


def test_a_driver_that_is_killed_is_started_again(lab, tmp_path):
    driver = lab.start(tmp_path / "out")
    lab.wait_for_outputs(driver, tmp_path / "out", 4)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    assert lab.finish(lab.start(tmp_path / "out"), tmp_path / "out")["resumed"] >= 4 * (CHECKPOINT // 2)


def test_a_worker_that_is_killed(lab, tmp_path):
    driver = lab.start(tmp_path / "out")
    lab.wait_for_outputs(driver, tmp_path / "out", 4)
    os.kill(lab.workers()[0], signal.SIGKILL)
    lab.finish(driver, tmp_path / "out")


def test_a_node_that_is_lost(lab, tmp_path):
    """The last test of this cluster, which has two nodes afterwards."""
    driver = lab.start(tmp_path / "out")
    lab.wait_for_outputs(driver, tmp_path / "out", 4)
    lab.cluster.remove_node(lab.nodes.pop(), allow_graceful=False)
    lab.finish(driver, tmp_path / "out")
