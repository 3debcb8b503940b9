"""Say what to install when a package is missing, in words that work in this environment. Imports nothing of ours.

echo-embeddings is on no package index yet, so hints about it and its integrations are for a checkout.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

__all__ = ["from_checkout", "has_pip", "install", "require", "reworded"]


def require(module: str, extra: str, purpose: str) -> None:
    """Raise an error that names the extra to install, if ``module`` is missing. Call it before any work is done.

    Args:
        module: the package as Python imports it.
        extra: the extra of echo-embeddings that installs it.
        purpose: what needs it, as the start of a sentence: ``"reading parquet"``.

    Raises:
        ImportError: ``module`` is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise ImportError(f"{purpose} needs {module}: {from_checkout(f'.[{extra}]')}", name=module)


def from_checkout(*paths: str, options: str = "", age: str = "") -> str:
    """Say how to install something of this repository, such as ``from a checkout: pip install '.[cli]'``.

    Args:
        paths: what to install, relative to the checkout, with extras: ``".[cli]"``.
        options: of ``pip install`` and of ``uv pip install``, such as ``"--no-deps"``.
        age: ``"newer"`` where the checkout that was installed from is not enough.
    """
    return f"from a {age + ' ' if age else ''}checkout: {install(*paths, options=options)}"


def install(*requirements: str, options: str = "") -> str:
    """The command that installs into the environment that runs, whatever made it: pip, uv, conda or pipx.

    Args:
        requirements: as pip takes them: names with versions, or paths.
        options: of ``pip install`` and of ``uv pip install``, such as ``"--no-deps"``.

    Returns:
        One line for a shell; for a frozen program, in which nothing can be installed, a sentence.
    """
    what = " ".join([*options.split(), *map(_quoted, requirements)])
    prefix = Path(sys.prefix)
    if getattr(sys, "frozen", False):
        return f"add {' '.join(requirements)} to the environment that this program is built from, and build it again"
    if (prefix / "pipx_metadata.json").is_file():
        return f"pipx runpip {_quoted(prefix.name)} install {what}"
    if _is_managed_by_the_system():
        return f"{_python()} -m venv --system-site-packages .venv && .venv/bin/python -m pip install {what}"
    if has_pip():
        return f"{_pip()} install {what}"
    return _without_pip(prefix, what)


def reworded(message: str) -> str:
    """Another library's message, with each ``pip install NAME`` in it in words that work in this environment."""
    plain = r"(?<!-m )(?<!uv )\bpip install ([A-Za-z][\w.\[\]-]*)\b(?![=<>])"
    return re.sub(plain, lambda found: install(found[1]), message)


def has_pip() -> bool:
    """Whether pip is installed in this environment.

    ``importlib.util.find_spec`` asks setuptools' hook too. At the name of pip, that hook switches its own distutils off
    for the rest of the process; then torch.compile fails on Python 3.10 and 3.11. The finder of paths has no such hook.
    """
    return importlib.machinery.PathFinder.find_spec("pip") is not None


def _without_pip(prefix: Path, what: str) -> str:
    if _is_of_uv(prefix) or shutil.which("uv"):
        return f"uv pip install {_which_python()}{what}"
    if (prefix / "conda-meta").is_dir():
        return f"conda install --prefix {_quoted(os.fspath(prefix))} pip && {_python()} -m pip install {what}"
    if importlib.util.find_spec("ensurepip") is not None:
        return f"{_python()} -m ensurepip && {_python()} -m pip install {what}"
    return f"install pip or uv, then run: pip install {what}"


def _pip() -> str:
    """``pip`` if that is the one of this environment, else how to run that one."""
    first = shutil.which("pip")
    own = Path(sys.executable or "python").parent
    return "pip" if first is not None and Path(first).parent == own else f"{_python()} -m pip"


def _python() -> str:
    return _quoted(sys.executable or "python")


def _which_python() -> str:
    """Without an active environment, or under ``uv run``, uv could take another one."""
    is_active = os.environ.get("VIRTUAL_ENV") == sys.prefix and "UV_RUN_RECURSION_DEPTH" not in os.environ
    return "" if is_active else f"--python {_python()} "


def _is_of_uv(prefix: Path) -> bool:
    try:
        return re.search(r"^uv *=", (prefix / "pyvenv.cfg").read_text(encoding="utf-8"), re.MULTILINE) is not None
    except (OSError, UnicodeDecodeError):
        return False


def _is_managed_by_the_system() -> bool:
    """Whether pip refuses to install here: the system's own Python of Debian, Fedora or Homebrew."""
    outside = sys.prefix == sys.base_prefix
    return outside and Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").is_file()


def _quoted(argument: str) -> str:
    """For a shell; Windows knows double quotes only."""
    if os.name != "nt":
        return shlex.quote(argument)
    return f'"{argument}"' if re.search(r"[\s\[\]<>=&|]", argument) else argument
