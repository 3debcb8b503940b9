"""Compare the rate of a job on Ray with that of one process, both with all cores of this machine.

    python -m benchmarks.distributed
    python -m benchmarks.distributed --rows 512 --files 8

The texts are docstrings of Python's standard library, as many rows in each of some parquet files. Ray has one worker
with all cores. What is counted begins when the first file is finished, so that neither side is charged for starting and
for loading the weights; both read parquet and write it. One process runs before and after Ray, because machines are
shared and noisy.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from echo_embeddings import EchoEncoder, EncoderOptions, embed_table

from .costs import passages

__all__ = ["main"]


def write_files(folder: Path, files: int, rows: int) -> None:
    """Parquet files of as many passages each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = cycle(passages(files * rows))
    folder.mkdir()
    for number in range(files):
        pq.write_table(pa.table({"text": list(islice(texts, rows))}), folder / f"{number:03}.parquet")


def alone(source: Path, target: Path, encoder: EchoEncoder) -> float:
    """Seconds a file in this process, after the first."""
    target.mkdir()
    ended = []
    for path in sorted(source.iterdir()):
        embed_table(path, target / path.name, encoder)
        ended.append(time.perf_counter())
    return (ended[-1] - ended[0]) / (len(ended) - 1)


def on_ray(source: Path, target: Path, options: EncoderOptions, cpus: int) -> float:
    """Seconds a file on Ray, after the first."""
    from echo_embeddings.distributed.ray import embed_folder

    embed_folder(source, target, options, num_cpus=cpus, workers=1)
    ended = sorted(path.stat().st_mtime for path in target.glob("*.parquet"))
    return (ended[-1] - ended[0]) / (len(ended) - 1)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256, help="rows of a file (256)")
    parser.add_argument("--files", type=int, default=5, help="files, at least 2 (5)")
    parser.add_argument("--model", help="instead of the built-in model")
    arguments = parser.parse_args(argv)

    import ray

    cpus = os.cpu_count() or 1
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options = EncoderOptions(model=arguments.model, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_files(place / "in", arguments.files, arguments.rows)
        before = alone(place / "in", place / "before", EchoEncoder.from_options(options))
        ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        spread = on_ray(place / "in", place / "ray", options, cpus)
        ray.shutdown()
        after = alone(place / "in", place / "after", EchoEncoder.from_options(options))
    one = (before + after) / 2
    rows = arguments.rows
    print(f"one process: {rows / before:.1f} and {rows / after:.1f} texts/s; Ray: {rows / spread:.1f} texts/s")
    print(f"Ray has {one / spread:.2f} of the rate of one process")


if __name__ == "__main__":
    main()
