"""
What C{rpcstream events} prints when the daemon goes and comes back.
"""

from __future__ import annotations

import io
import json
from typing import Any

from twisted.internet.defer import Deferred

from rpcstream import libvirt
from rpcstream.cli.events import _print
from rpcstream.cli.output import JsonOutput
from rpcstream.errors import RPCStreamError
from tests.libvirt.daemon import DaemonCase


class EventsTests(DaemonCase):
    """One run, without its process."""

    def _start(self, count: int | None) -> tuple[Any, list[Any], io.StringIO]:
        stdout = io.StringIO()
        service = libvirt.ConnectionService(
            "test+unix:///?socket=/s",
            endpoint=self.network,
            runner=self.network.runner,
            reactor=self.network.clock,
            retry_policy=lambda attempt: 1.0,
        )
        service.startService()
        ended: list[Any] = []
        printing = _print(service, JsonOutput(stdout, io.StringIO()), None, count)
        Deferred.fromCoroutine(printing).addBoth(ended.append)
        self.network.pump()
        return service, ended, stdout

    def _stop(self, service: Any) -> None:
        stopping = service.stopService()
        self.network.advance(15)
        self.successResultOf(stopping)

    def test_gap(self) -> None:
        """A reconnect is a line of its own; numbers that have no name are printed as numbers."""
        service, ended, stdout = self._start(2)
        self.daemon.emit(0, 1)
        self.network.pump()
        self.network.cut()
        self.network.advance(2)
        self.daemon.emit(1, 5, event=99)
        self.network.pump()
        lines = [json.loads(line) for line in stdout.getvalue().splitlines()]
        self.assertEqual(["note", "lifecycle", "gap", "lifecycle"], [line["event"] for line in lines])
        self.assertEqual(("suspended", 99), (lines[1]["what"], lines[3]["what"]))
        self.assertIsNone(lines[2]["lost"])
        self.assertEqual([2], ended)
        self._stop(service)

    def test_no_more_events(self) -> None:
        """The service ends: so does the command, with an error."""
        service, ended, _ = self._start(None)
        self._stop(service)
        self.assertTrue(ended[0].check(RPCStreamError))
