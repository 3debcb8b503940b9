"""The command line: one module a command, which parses options, calls the library and prints.

torch is imported when a command needs it, not for ``--help``.
"""

from __future__ import annotations

import sys

from echo_embeddings.extras import from_checkout

__all__ = ["main"]


def main() -> None:
    """Run ``echo-embeddings``; always leaves by ``SystemExit``."""
    try:
        from echo_embeddings.cli.app import app
        from echo_embeddings.cli.output import plain_warnings
    except ImportError as error:
        if (error.name or "").split(".")[0] not in ("typer", "rich"):
            raise  # a fault of ours must not be mistaken for a missing package
        sys.stderr.write(f"echo-embeddings: the command line needs typer and rich: {from_checkout('.[cli]')}\n")
        sys.exit(2)
    plain_warnings()
    app(prog_name="echo-embeddings")
