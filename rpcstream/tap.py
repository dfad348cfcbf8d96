"""
C{twistd rpcstream destination ...} and C{twistd rpcstream source ...}.

What lives here: options to services, and errors to one line each.  The plugin in
C{twisted/plugins/rpcstream_plugin.py} names this module; it is imported only
when C{rpcstream} was typed, and the reactor only when the options are complete.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python import usage

from rpcstream.errors import ConfigurationError, RPCStreamError
from rpcstream.services.config import load_config
from rpcstream.services.connections import CONNECTION_COUNT
from rpcstream.services.destination import destination_service
from rpcstream.services.loaded import keep_loaded
from rpcstream.services.source import DEFAULT_STATE, source_service
from rpcstream.units import parse_rate

__all__ = ["DestinationOptions", "Options", "SourceOptions", "default_pki", "makeService"]


def default_pki() -> Path:
    """The directory of certificates when none is named: C{RPCSTREAM_PKI}, or below the home directory."""
    return Path(os.environ.get("RPCSTREAM_PKI") or "~/.config/rpcstream/pki").expanduser()


class _ServiceOptions(usage.Options):
    """What both services have in common; the service is built while the options are read."""

    service: IService

    def opt_pki(self, directory: str) -> None:
        """Directory of certificates [default: RPCSTREAM_PKI, or ~/.config/rpcstream/pki]"""
        self["pki"] = Path(directory).absolute()

    def opt_insecure(self) -> None:
        """Permit plaintext."""
        self["insecure"] = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["pki"] = None
        self["insecure"] = False

    def parseArgs(self, *rest: str) -> None:
        """Called by Twisted with what is no option."""
        if rest:
            raise usage.UsageError(
                f"{rest[0]!r} is no option; an option's value is given once after each: --root A --root B"
            )

    def postOptions(self) -> None:
        """Called by Twisted: here an error still is a usage error, not a traceback."""
        self["pki"] = self["pki"] or default_pki()
        try:
            self.service = self.build()
        except ConfigurationError as error:
            raise usage.UsageError(str(error)) from None

    def build(self) -> IService:
        """
        @raise ConfigurationError: an option cannot be used.
        """
        raise NotImplementedError

    def required(self, name: str, form: str) -> Any:
        """
        @raise ConfigurationError: the option was not given.
        """
        if not self[name]:
            raise ConfigurationError(f"--{name} is missing: add --{name} {form}")
        return self[name]


class DestinationOptions(_ServiceOptions):
    """C{twistd rpcstream destination}."""

    synopsis = "--listen ENDPOINT... --store DIR [--pki DIR] [--config FILE.toml] [--insecure]"
    longdesc = "Receives and serves the files of a directory, over mutual TLS."
    optParameters = [
        ["store", "s", None, "Directory of the pool called default."],
        ["config", "c", None, "Configuration file: pools, devices, rules, limits."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Where to listen: rpctls:PORT[:interface=ADDR][:pki=DIR] or unix:PATH; may be repeated"""
        self["listen"].append(endpoint)

    opt_l = opt_listen

    def build(self) -> IService:
        """See L{destination_service}."""
        listen = self.required("listen", "rpctls:16514")
        store = self.required("store", "DIR")
        path = Path(self["config"]).absolute() if self["config"] else None
        config = load_config(path, insecure=self["insecure"])
        return destination_service(listen, store, pki=self["pki"], config=config, insecure=self["insecure"])


class SourceOptions(_ServiceOptions):
    """C{twistd rpcstream source}."""

    synopsis = "--listen unix:PATH --to URL --root DIR... [--pki DIR] [--state DIR] [--concurrent N]"
    longdesc = "Sends files to a destination, as jobs that survive a restart."
    optParameters = [
        ["listen", "l", None, "unix:PATH, where jobs are submitted."],
        ["to", "t", None, "The destination: rpcstream+tls://HOST[:PORT]/[?pool=NAME]"],
        [
            "state",
            None,
            None,
            f"Directory of the job queue, of this service alone [default: {DEFAULT_STATE}]",
        ],
        ["concurrent", "n", "1", "How many transfers run at once."],
        ["connections", None, "1", "How many connections each transfer uses at once."],
        ["bwlimit", None, None, "Rate limit of each transfer, in bytes per second: 100M."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["root"] = []

    def opt_root(self, directory: str) -> None:
        """A directory that files may be sent from; may be repeated"""
        self["root"].append(directory)

    opt_r = opt_root

    def build(self) -> IService:
        """See L{source_service}."""
        return source_service(
            self.required("listen", "unix:PATH"),
            self.required("to", "rpcstream+tls://HOST/"),
            roots=self.required("root", "DIR"),
            pki=self["pki"],
            state=self["state"],
            concurrent=_count("--concurrent", self["concurrent"], 1000),
            connection_count=_count("--connections", self["connections"], CONNECTION_COUNT),
            bytes_per_second=parse_rate(self["bwlimit"], "--bwlimit") if self["bwlimit"] else None,
            insecure=self["insecure"],
        )


class Options(usage.Options):
    """C{twistd rpcstream}."""

    synopsis = "[options]"
    subCommands = [
        ["destination", None, DestinationOptions, "receive and serve files"],
        ["source", None, SourceOptions, "send files, as jobs"],
    ]

    def postOptions(self) -> None:
        """Called by Twisted."""
        if self.subCommand is None:
            raise usage.UsageError("say which service: destination or source")


def makeService(options: Options) -> IService:
    """Called by Twisted with complete options."""
    started = _OneLineErrors(getattr(options, "parent", None) or {})
    options.subOptions.service.setServiceParent(started)
    return started


class _OneLineErrors(MultiService):
    """
    A start that fails is the operator's to mend: one line, exit status 1, no traceback.
    """

    log = Logger(namespace="rpcstream")

    def __init__(self, parent: Mapping[str, Any]) -> None:
        """
        @param parent: twistd's own options.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._parent = parent

    def privilegedStartService(self) -> None:
        """Called by twistd: listen."""
        self._try(super().privilegedStartService)
        keep_loaded()

    def startService(self) -> None:
        """Called by twistd: open what is needed."""
        self._try(super().startService)

    def _try(self, start: Callable[[], object]) -> None:
        try:
            start()
        except (RPCStreamError, CannotListenError, OSError) as error:
            self.log.critical("cannot start: {error}", error=error)
            self._tell(f"cannot start: {error}")
            raise SystemExit(1) from None

    def _tell(self, text: str) -> None:
        pipe = self._parent.get("statusPipe")
        if pipe is not None:
            # A daemon: the process that was typed waits for a word, as twistd's own errors have it.
            os.write(pipe, f"1 {text}".encode("utf-8", "replace")[:100])
            os.close(pipe)
        elif sys.__stderr__ is not None:
            # Not sys.stderr: twistd has put its log in the place of that.
            sys.__stderr__.write(f"rpcstream: {text}\n")
        pid_file = self._parent.get("pidfile")
        if pid_file:
            Path(pid_file).unlink(missing_ok=True)


def _count(option: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:9]) <= most and len(text) <= 4):
        raise ConfigurationError(f"{option}: {text[:40]!r} is not a number from 1 to {most}")
    return int(text)
