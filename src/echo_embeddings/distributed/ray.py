"""Ray Data: a dataset of texts gets a column of vectors; a folder of parquet files becomes one with vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from echo_embeddings.config.config import require_whole
from echo_embeddings.data.reading import Bounds
from echo_embeddings.errors import InputError
from echo_embeddings.extras import require
from echo_embeddings.options import EncoderOptions

from .rows import cells, embed_rows, require_role
from .workers import Workers, WorkersEncoder, arranged

if TYPE_CHECKING:
    from ray.data import Dataset

__all__ = ["embed_dataset"]

_COLUMN = "embedding"

# The column in which Ray's readers write the file of a row, with include_paths=True.
_PATH = "path"


def embed_dataset(
    dataset: Dataset,
    column: str = "text",
    role: str = "document",
    options: EncoderOptions | None = None,
    *,
    output: str = _COLUMN,
    batch_rows: int = 1024,
    workers: int | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
) -> Dataset:
    """Add a column of vectors to a Ray dataset: a step of its plan, which runs when the dataset is consumed.

    Blocks are streamed through actors that load the weights once each, on the node where they run; nothing is
    collected. Each actor makes batches by tokens from the rows of a block. The rows keep their columns. Nodes that
    differ in device or dtype give vectors that differ by rounding; ``dtype="float32"`` makes them alike.

    Args:
        dataset: a dataset with a column of texts. An error names the file of a row if there is a column ``path``, as
            ``ray.data.read_parquet(..., include_paths=True)`` adds it.
        column: the column of texts. A null, or what is no text, is an error, as in ``embed_table``.
        role: ``"document"`` for what is searched in, ``"query"`` for what is searched for.
        options: which model, which vectors, and how each encoder runs; ``None`` for the defaults. Each node must find
            the model: a path must be of a shared folder. Without a GPU, ``device=None`` means the CPU.
        output: the new column: a fixed-size list of float32, as ``embed_table`` writes.
        batch_rows: the rows of a block that are embedded together.
        workers: the most actors; ``None`` for as many as the cluster has room for now.
        num_cpus: CPUs of an actor, and threads that it computes with; ``None`` for 1 beside a GPU, else up to 4, and
            one CPU is left for those who read.
        num_gpus: GPUs of an actor; ``None`` for 1 if the cluster has any and ``options.device`` is not another.

    Returns:
        A new dataset; nothing has run yet.

    Raises:
        ConfigError: an option cannot work, or no node has room for an actor.
        ImportError: Ray is missing.

    When the dataset is consumed, Ray raises a ``RayTaskError`` whose ``cause`` is an ``InputError`` (a row has no text,
    or is too long under ``on_truncate="error"``) or a ``NumericalError``; its message names the row of its block.
    """
    require("ray", "ray", "embed_dataset")
    import ray

    role = require_role(role)
    require_whole("batch_rows", batch_rows, at_least=1)
    if not ray.is_initialized():
        ray.init()
    pool = arranged(options, workers, num_cpus, num_gpus, spare=1)
    return dataset.map_batches(
        EmbedBlocks,
        fn_constructor_args=(pool, column, role, output),
        batch_size=batch_rows,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=pool.count),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
        udf_modifying_row_count=False,
    )


class EmbedBlocks:
    """What an actor of :func:`embed_dataset` does with each block; Ray shows its name."""

    def __init__(self, workers: Workers, column: str, role: str, output: str) -> None:
        self._encoder = WorkersEncoder(workers)
        self._column, self._role, self._output = column, require_role(role), output

    def __call__(self, table: Any) -> Any:
        """Add the vectors to an Arrow table."""
        from echo_embeddings.data.parquet import vectors_column

        self._check(table.column_names)
        files = table.column(_PATH).to_pylist() if _PATH in table.column_names else None

        def place(row: int) -> str:
            where = "the dataset" if files is None else str(files[row])
            return f"{where}, row {row + 1} of a block of {table.num_rows}"

        content = cells(table.column(self._column), self._column, place, Bounds())
        done = embed_rows(self._encoder.get(), content, self._role, place, skip=False)
        return table.append_column(*vectors_column(done.vectors, self._output))

    def _check(self, names: list[str]) -> None:
        if self._column not in names:
            raise InputError(f"the dataset has no column {self._column!r}; it has {', '.join(map(repr, names))}")
        if self._output in names:
            raise InputError(f"the dataset has a column {self._output!r} already; rename it, or give another output=")
