"""The typer application: its commands, and how every failure looks to a person.

Exit codes: 0 done; 1 the work cannot be done (one message on stderr); 2 wrong usage; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import errno
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from echo_embeddings import __version__
from echo_embeddings.errors import EchoError

from . import compare, embed, evaluate, explain, index, model, output, plugins, search, serve, tune

__all__ = ["app"]


class _Group(TyperGroup):
    """Adds the commands of other distributions, and turns an error into one message and an exit code.

    An error that nobody foresaw keeps its traceback.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return [*own, *(name for name in plugins.names() if name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name) or plugins.command(cmd_name)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            output.note("interrupted")
            raise typer.Exit(130) from None
        except (EchoError, OSError, ImportError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # `... | head` has read enough; typer ends in silence
            output.note(f"error: {_sentence(error)}")
            raise typer.Exit(1) from None


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"echo-embeddings {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Text embeddings from a language model that reads the text twice.",
)


@app.callback()
def _main(
    *,
    _: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=lambda value: _version(wanted=value)
        ),
    ] = False,
) -> None:
    """The options of ``echo-embeddings`` itself."""


app.command()(embed.embed)
app.command()(index.index)
app.command()(search.search)
app.command()(compare.compare)
app.command()(explain.explain)
app.command()(serve.serve)
app.command()(tune.tune)
app.command()(evaluate.evaluate)
app.add_typer(model.app, name="model")
