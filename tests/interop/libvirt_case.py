"""
What tests against a real libvirtd have in common.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from rpcstream import libvirt
from tests.interop.libvirtd import Libvirtd

__all__ = ["LibvirtCase", "asynchronous", "virsh"]


def asynchronous(test: Callable[[Any], Coroutine[Any, Any, None]]) -> Callable[[Any], Deferred[None]]:
    """A test that is an C{async def}."""

    @functools.wraps(test)
    def run(case: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(test(case))

    return run


def virsh(daemon: Libvirtd, *commands: str, **options: Any) -> Deferred[Any]:
    """Run virsh while the reactor runs."""
    return deferToThread(daemon.virsh, *commands, **options)


class LibvirtCase(TestCase):
    """Tests with a directory of their own."""

    timeout = 300

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    async def connected(self, uri: str, **options: Any) -> libvirt.Connection:
        """A connection that is closed at the end of the test."""
        host = await libvirt.connect(uri, reactor=reactor, **options)
        self.addCleanup(host.close)
        return host

    async def failure_of(self, awaitable: Any, kind: type[Exception]) -> Any:
        """The exception that C{awaitable} must raise."""
        try:
            result = await awaitable
        except kind as error:
            return error
        raise AssertionError(f"{kind.__name__} expected, there was {result!r}")
