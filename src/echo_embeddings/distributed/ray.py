"""Ray Data: a dataset of texts gets a column of vectors; a folder of parquet files becomes one with vectors."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from echo_embeddings import errors
from echo_embeddings.data.reading import Bounds
from echo_embeddings.encoder import EchoEncoder
from echo_embeddings.errors import ConfigError, InputError, WorkerError
from echo_embeddings.extras import require
from echo_embeddings.options import EncoderOptions
from echo_embeddings.types import require_whole

from .rows import ON_ERROR, cells, embed_rows, require_role
from .workers import FAILURES, Workers, WorkersEncoder, arranged

if TYPE_CHECKING:
    from ray.data import Dataset

    from .folder import FolderJob, Work
    from .fragments import Fragment
    from .places import Place

__all__ = ["EmbedBlocks", "EmbedFragments", "EmbeddedFolder", "embed_dataset", "embed_folder"]

_COLUMN = "embedding"

# Blocks of a dataset at most, each of which Ray keeps in mind.
_BLOCKS = 20_000

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
        output: the new column: lists of a fixed size, as ``embed_table`` writes, in the ``precision`` of the options.
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
    require_whole("batch_rows", batch_rows, ConfigError)
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


@dataclass(frozen=True)
class EmbeddedFolder:
    """A finished job.

    Attributes:
        target: the folder written.
        files: how many files with vectors it has.
        rows: how many rows they have.
        resumed_from: how many of them an earlier run had finished.
        skipped: rows that were left out; ``_skipped.jsonl`` in the folder says which, and why.
        dimension: length of a vector.
        truncated_texts: texts that were longer than the config's ``max_length``.
        truncated_tokens: tokens of them that were not read.
        seconds: how long this run took.
    """

    target: str
    files: int
    rows: int
    resumed_from: int
    skipped: int
    dimension: int
    truncated_texts: int
    truncated_tokens: int
    seconds: float


def embed_folder(  # noqa: PLR0913 - two folders, an encoder, and what Ray may use
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: EncoderOptions | None = None,
    *,
    column: str = "text",
    role: str = "document",
    on_error: str = "raise",
    checkpoint_rows: int = 16_384,
    max_row_bytes: int = Bounds.row_bytes,
    max_decompressed_bytes: int | None = None,
    restart: bool = False,
    workers: int | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
) -> EmbeddedFolder:
    """Embed a folder of parquet files on Ray, into a folder of parquet files with the column ``embedding``.

    Each file of the output is written under another name and renamed when it is whole, and says in its footer which
    rows it is of and what its vectors are made with. So a run that lost a worker, a node or itself goes on where it
    stopped: the same call embeds what is missing, and no row is lost or doubled. Files that were added to the source
    are embedded too. A call with another model or config, or another input, is refused.

    Ray says how far it is, in files of the output. This process loads no weights and sees no texts.

    Args:
        source: a folder with ``.parquet`` files, in folders of it too, or one such file; a local path, which every
            node must find, or an address that pyarrow knows, such as ``s3://bucket/folder``.
        target: a folder, the same way.
        options: which model, which vectors, and how each encoder runs; ``None`` for the defaults. Each node must find
            the model. Without a GPU, ``device=None`` means the CPU.
        column: the column of texts, of the same rules as in ``embed_table``.
        role: ``"document"`` for what is searched in, ``"query"`` for what is searched for.
        on_error: what to do about a row that cannot be embedded (no text, too long under ``on_truncate="error"``, NaN):
            ``"raise"`` names file and row; ``"skip"`` leaves it out and writes file, row and reason into
            ``_skipped.jsonl``.
        checkpoint_rows: the most rows of an output file. A larger input file becomes several, which workers make at
            the same time; a worker that is lost loses at most so many rows.
        max_row_bytes: the most characters of a text.
        max_decompressed_bytes: the most bytes that a file may become; ``None`` is 250 times its size.
        restart: begin anew, and remove what an earlier job wrote into the target.
        workers: the most actors; ``None`` for as many as the cluster has room for now.
        num_cpus: CPUs of an actor, and threads that it computes with; ``None`` for 1 beside a GPU, else up to 4.
        num_gpus: GPUs of an actor; ``None`` for 1 if the cluster has any and ``options.device`` is not another.

    Raises:
        InputError: the input, the target or a row cannot be used; names file and row.
        NumericalError: the model gave NaN or infinity for a row; names it.
        ConfigError: an option cannot work, or no node has room for an actor.
        ModelError: the model cannot be used.
        OutputError: a file cannot be written; what is finished is kept.
        WorkerError: workers were lost, and nothing more could be done.
        ImportError: Ray is missing.
    """
    require("ray", "ray", "embed_folder")
    import ray

    from .folder import FolderJob, Work
    from .fragments import fragments_of, input_files

    started = time.perf_counter()
    role, bounds = require_role(role), Bounds(max_row_bytes, max_decompressed_bytes)
    require_whole("checkpoint_rows", checkpoint_rows, ConfigError)
    if on_error not in ON_ERROR:
        raise ConfigError(f"on_error={on_error!r} is unknown; choose one of {', '.join(ON_ERROR)}")
    read, written = _places(source, target)
    fragments = fragments_of(input_files(read, column, bounds), checkpoint_rows)
    if not ray.is_initialized():
        ray.init()
    options = options or EncoderOptions()
    if options.on_truncate == "warn":  # the result says how many were truncated
        options = options.replace(on_truncate="ignore")
    pool = arranged(options, workers, num_cpus, num_gpus)
    made = _made_by_a_worker(pool, column, role, checkpoint_rows)
    with written.locked():
        work = Work(read, written, column, role, on_error == "skip", bounds, made)
        job = FolderJob.open(work, fragments, restart=restart)
        before = job.rows
        _run(job, pool)
        job.require_same_input()
        job.finish()
    return EmbeddedFolder(
        str(target),
        len(job.done),
        job.rows,
        before,
        job.skipped,
        max(done.dimension for done in job.done.values()),
        *job.truncated,
        time.perf_counter() - started,
    )


class EmbedFragments:
    """What an actor of :func:`embed_folder` does with each fragment; Ray shows its name."""

    def __init__(self, workers: Workers, work: Work) -> None:
        self._encoder, self._work = WorkersEncoder(workers), work

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        """Embed a fragment and write its output; an error is part of the answer, because Ray wraps what is raised."""
        from .folder import embed_fragment

        fragment = _fragment(row)
        try:
            embed_fragment(self._work, fragment, self._encoder.get())
        except FAILURES as error:
            return {"output": fragment.output} | _said(error)
        return {"output": fragment.output, "kind": "", "error": ""}


def _places(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> tuple[Place, Place]:
    require("pyarrow", "parquet", "reading parquet")
    from .places import place_of

    read, written = place_of(source, may_be_file=True), place_of(target)
    same = type(read.filesystem) is type(written.filesystem)
    if same and read.only is None and f"{written.path}/".startswith(f"{read.path}/"):
        raise InputError(f"{target} is in the folder that is read, {source}; choose a folder beside it")
    return read, written


def _made_by_a_worker(pool: Workers, column: str, role: str, rows: int) -> dict[str, Any]:
    """What vectors are made with, found out where they are made: this process may have another device."""
    import ray

    hosts = [node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]]
    if hosts == [socket.gethostname()]:
        made = _made(pool, column, role, rows)
    else:
        task = ray.remote(_made).options(num_cpus=pool.cpus, num_gpus=pool.gpus)
        made = ray.get(task.remote(pool, column, role, rows))
    if "error" in made:
        raise _error(made)
    return made


def _made(pool: Workers, column: str, role: str, rows: int) -> dict[str, Any]:
    from .folder import made_by

    try:
        return made_by(EchoEncoder.from_options(pool.options), column, require_role(role), rows)
    except FAILURES as error:
        return dict(_said(error))


def _run(job: FolderJob, pool: Workers) -> None:
    """Let Ray embed all that is not finished; what is lost with a node is embedded again."""
    import ray

    while todo := job.todo:
        lost: Exception | None = None
        try:
            _embed(todo, job.work, pool)
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:
            lost = error
        job.look()
        if len(job.todo) < len(todo):
            continue
        if lost is not None:
            raise WorkerError(
                f"workers were lost ({lost}); {len(job.done)} files are finished, run the same again to go on"
            ) from lost
        raise InputError(
            f"workers wrote {todo[0].output}, and it is not in {job.work.target.name} here: every node must reach the "
            "same folder. Use a shared one, or an address such as s3://bucket/folder"
        )


def _embed(todo: list[Fragment], work: Work, pool: Workers) -> None:
    import ray

    rows = [asdict(one.file) | {"first": one.first, "count": one.rows, "output": one.output} for one in todo]
    dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), _BLOCKS))
    count = min(pool.count, len(rows))
    # One task at a time an actor: a fragment takes long, and what waits for one actor is not done by another.
    strategy = ray.data.ActorPoolStrategy(
        min_size=1, max_size=count, initial_size=count, max_tasks_in_flight_per_actor=1
    )
    done = dataset.map(
        EmbedFragments,
        fn_constructor_args=(pool, work),
        compute=strategy,
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )
    done.context.execution_no_progress_timeout_s = -1  # a fragment may take longer than that
    for row in done.iter_rows():
        if row["error"]:
            raise _error(row)


def _fragment(row: dict[str, Any]) -> Fragment:
    from .fragments import Fragment, InputFile

    file = InputFile(row["name"], int(row["rows"]), int(row["size"]), row["digest"])
    return Fragment(file, int(row["first"]), int(row["count"]), row["output"])


def _said(error: Exception) -> dict[str, str]:
    known = isinstance(error, errors.EchoError)
    return {
        "kind": type(error).__name__ if known else "WorkerError",
        "error": str(error) if known else f"{type(error).__name__} on {socket.gethostname()}: {error}",
    }


def _error(row: dict[str, Any]) -> Exception:
    """The error that a worker has told."""
    kind = getattr(errors, str(row["kind"]), WorkerError)
    return kind(row["error"]) if kind is not errors.TruncationError else InputError(row["error"])
