"""
Option types and the options that several commands share.

What lives here: text of the command line to values, with usage errors (exit
status 2).  What must not: anything that connects.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from rpcstream.cli.output import Output, make_output
from rpcstream.errors import ConfigurationError
from rpcstream.net.urls import Url, parse_url
from rpcstream.services.connections import CONNECTION_COUNT
from rpcstream.units import parse_rate, parse_size

__all__ = [
    "MODE",
    "RATE",
    "SIZE",
    "URL",
    "VIA",
    "Settings",
    "connecting",
    "default_pki",
    "need_name",
    "printing",
    "transferring",
    "watching",
]

F = TypeVar("F", bound=Callable[..., Any])


class _Parsed(click.ParamType[Any]):
    """A value that one of our own functions reads."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ConfigurationError as error:
            self.fail(str(error), param, ctx)


def _parse_mode(text: str) -> int:
    try:
        # int() would take "0x1", "-7" and "1_0" apart from its base; a mode is octal digits.
        mode = int(text, 8) if text.isascii() and text.isdigit() else -1
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise ConfigurationError(f"{text[:40]!r} is not permission bits in octal, for example 0640")
    return mode


def _parse_via(text: str) -> Url:
    kind, _, path = text.partition(":")
    if kind != "unix" or not path:
        raise ConfigurationError(f"{text[:200]!r} is not unix:PATH")
    return Url("unix", "", 0, socket=os.path.abspath(path))


URL = _Parsed("url", parse_url)
RATE = _Parsed("rate", lambda text: parse_rate(text, "rate"))
SIZE = _Parsed("size", lambda text: parse_size(text, "size"))
MODE = _Parsed("octal", _parse_mode)
VIA = _Parsed("unix:path", _parse_via)


@attrs.frozen
class Settings:
    """
    What the common options say.

    @ivar output: how to print.
    @ivar pki: directory of certificates, L{None} for commands that have no such option.
    @ivar insecure: plain text may leave this host.
    @ivar as_json: whether results are JSON objects.
    """

    output: Output
    pki: Path | None = None
    insecure: bool = False
    as_json: bool = False


def default_pki() -> str:
    """Where certificates are when nothing says so."""
    return os.path.expanduser("~/.config/rpcstream/pki")


def _settings(
    as_json: bool, no_progress: bool = False, pki: Path | None = None, insecure: bool = False
) -> Settings:
    output = make_output(sys.stdout, sys.stderr, as_json=as_json, shows_progress=not no_progress)
    return Settings(output, pki, insecure, as_json)


def _with_settings(command: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """Replace the values of the shared options by one C{settings}."""

    def run(**values: Any) -> Any:
        settings = _settings(**{name: values.pop(name) for name in names})
        return command(settings=settings, **values)

    run.__name__ = command.__name__
    run.__doc__ = command.__doc__
    # What decorators below this one have collected.
    run.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    return run


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON objects, one a line.")
_no_progress = click.option("--no-progress", is_flag=True, help="Show no progress.")
_pki = click.option(
    "--pki",
    type=click.Path(path_type=Path),
    envvar="RPCSTREAM_PKI",
    default=default_pki,
    show_default="RPCSTREAM_PKI, or ~/.config/rpcstream/pki",
    help="Directory of certificates (see rpcstream pki).",
)
_insecure = click.option(
    "--insecure", is_flag=True, help="Permit plain text to other hosts (rpcstream+tcp://)."
)


def printing(command: Callable[..., Any]) -> Callable[..., Any]:
    """C{--json}, for a command that connects to nobody or to a local socket."""
    return _json(_with_settings(command, "as_json"))


def watching(command: Callable[..., Any]) -> Callable[..., Any]:
    """C{--json} and C{--no-progress}."""
    return _json(_no_progress(_with_settings(command, "as_json", "no_progress")))


def connecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """C{--pki}, C{--insecure} and C{--json}."""
    return _pki(_insecure(_json(_with_settings(command, "as_json", "pki", "insecure"))))


def transferring(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of C{send} and C{receive}."""
    names = ("as_json", "no_progress", "pki", "insecure")
    command = _json(_no_progress(_with_settings(command, *names)))
    command = click.option("--mode", type=MODE, metavar="OCTAL", help="Permission bits of the new file.")(
        command
    )
    command = click.option(
        "--connections",
        type=click.IntRange(1, CONNECTION_COUNT),
        default=1,
        show_default=True,
        metavar="N",
        help="Use N connections at once: where one is limited, N carry more.",
    )(command)
    command = click.option(
        "--retry",
        type=click.IntRange(0),
        default=0,
        metavar="N",
        help="Try again up to N times after failures that may pass.",
    )(command)
    command = click.option(
        "--no-resume", is_flag=True, help="Do not use what an earlier try has brought over."
    )(command)
    command = click.option("--replace", is_flag=True, help="Replace the name if it exists.")(command)
    command = click.option(
        "--bwlimit", type=RATE, metavar="RATE", help="Use no more than this a second: 500K, 20M, 1G."
    )(command)
    return _pki(_insecure(command))


def need_name(url: Url) -> str:
    """
    @return: the name in the URL.
    @raise click.UsageError: it has none.
    """
    if not url.name:
        raise click.UsageError(f"the URL names nothing in the pool; write {_with_name(url)}")
    return url.name


def _with_name(url: Url) -> str:
    return str(url._replace(name="NAME"))
