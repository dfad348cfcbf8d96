"""
The command C{rpcstream}: what it is made of, and its one way out.

Whatever goes wrong ends as one line on stderr and an exit status: 0 done, 1
failed, 2 wrong usage, 128 + signal interrupted.  Never a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module, metadata

import click

from rpcstream.cli.output import make_output
from rpcstream.cli.running import leave

__all__ = ["cli", "main"]

_EPILOG = """
\b
URL is one of
  rpcstream+tls://HOST[:PORT]/NAME[?pool=NAME]   mutual TLS, port 16514
  rpcstream+tcp://HOST[:PORT]/NAME               plain text
  rpcstream+unix:///NAME?socket=PATH             on this machine
  DRIVER+tls://HOST/system#POOL/VOLUME           a volume of a libvirt host
SIZE and RATE take K, M, G, T: powers of 1024.

\b
The other side is a twistd service:
  twistd -n rpcstream destination --listen rpctls:16514 --store DIR --pki DIR

\b
Completion in the shell:
  bash  eval "$(_RPCSTREAM_COMPLETE=bash_source rpcstream)"
  zsh   eval "$(_RPCSTREAM_COMPLETE=zsh_source rpcstream)"
  fish  _RPCSTREAM_COMPLETE=fish_source rpcstream | source

\b
Exit status: 0 done, 1 failed, 2 wrong usage, 130 or 143 interrupted.
"""


def _version() -> str:
    try:
        return metadata.version("rpcstream")
    except metadata.PackageNotFoundError:
        return "(not installed)"


_COMMANDS = {
    "bench": "bench:bench",
    "call": "call:call",
    "cancel": "jobs:cancel",
    "demo": "demo:demo",
    "digest": "digest:digest",
    "events": "events:events",
    "jobs": "jobs:jobs",
    "list": "pool:list_names",
    "partials": "pool:partials",
    "passwd": "passwd:passwd",
    "peek": "peek:peek",
    "ping": "ping:ping",
    "pki": "pki:pki",
    "receive": "receive:receive",
    "remove": "pool:remove",
    "screenshot": "screenshot:screenshot",
    "send": "send:send",
    "stat": "pool:stat",
    "submit": "jobs:submit",
    "xdr": "xdr:xdr",
}
"""Of each command its module, and what it is called there."""


class _Commands(click.Group):
    """Loads the module of a command when it is asked for: no start waits for the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module, _, name = _COMMANDS.get(cmd_name, "").partition(":")
        if not module:
            return None
        command: click.Command = getattr(import_module(f"rpcstream.cli.{module}"), name)
        return command


@click.group(
    cls=_Commands,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(_version(), prog_name="rpcstream")
def cli() -> None:
    """Send and fetch files and disks over one mutually authenticated connection, verified at both ends."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a command line.

    @param arguments: without the program's name; by default the process's.
    @return: the exit status.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = cli.main(words, prog_name="rpcstream", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        status = 2
    except click.ClickException as error:
        status = _failed(words, _with_help(error))
    except (KeyboardInterrupt, click.Abort):
        status = _failed(words, KeyboardInterrupt())
    except SystemExit as error:
        # click's completion leaves so.
        status = error.code if isinstance(error.code, int) else 1
    except Exception as error:
        status = _failed(words, error)
    return leave(status if isinstance(status, int) else 0)


def _failed(words: Sequence[str], error: BaseException) -> int:
    output = make_output(sys.stdout, sys.stderr, as_json="--json" in words, shows_progress=False)
    try:
        return output.failed(error)
    except (OSError, ValueError):
        return 1


def _with_help(error: click.ClickException) -> click.ClickException:
    """Name the help page in the same line."""
    context = getattr(error, "ctx", None)
    if not isinstance(error, click.UsageError) or context is None:
        return error
    text = error.format_message().rstrip(".")
    return click.UsageError(f"{text}; see {context.command_path} --help", context)


if __name__ == "__main__":
    sys.exit(main())
