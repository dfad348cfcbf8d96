"""
The command C{rpcstream}: what it is made of, and its one way out.

Whatever goes wrong ends as one line on stderr and an exit status: 0 done, 1
failed, 2 wrong usage, 128 + signal interrupted.  Never a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import metadata

import click

from rpcstream.cli.bench import bench
from rpcstream.cli.call import call
from rpcstream.cli.demo import demo
from rpcstream.cli.digest import digest
from rpcstream.cli.events import events
from rpcstream.cli.jobs import cancel, jobs, submit
from rpcstream.cli.output import make_output
from rpcstream.cli.passwd import passwd
from rpcstream.cli.peek import peek
from rpcstream.cli.ping import ping
from rpcstream.cli.pki import pki
from rpcstream.cli.pool import list_names, partials, remove, stat
from rpcstream.cli.receive import receive
from rpcstream.cli.running import leave
from rpcstream.cli.screenshot import screenshot
from rpcstream.cli.send import send
from rpcstream.cli.xdr import xdr

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


@click.group(
    epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(_version(), prog_name="rpcstream")
def cli() -> None:
    """Send and fetch files and disks over one mutually authenticated connection, verified at both ends."""


for _command in (
    bench, call, cancel, demo, digest, events, jobs, list_names, partials, passwd, peek, ping, pki, receive,
    remove, screenshot, send, stat, submit, xdr,
):  # fmt: skip
    cli.add_command(_command)


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
