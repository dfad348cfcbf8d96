"""
Which method answers which procedure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import maybeDeferred
from twisted.python.failure import Failure

from rpcstream.errors import ConfigurationError, PeerError, RemoteError
from rpcstream.net.answers import as_remote_error
from rpcstream.programs.base import Kind, ProcedureInfo

if TYPE_CHECKING:
    from rpcstream.net.calls import Call

__all__ = ["Guard", "Responder", "Responders", "run_event"]

Guard = Callable[[Any, int], RemoteError | None]
"""Given a L{ServerConnection} and a procedure's number: why this call is refused, if it is."""


class Responder(NamedTuple):
    """
    @ivar procedure: what it answers.
    @ivar method: the bound method, called with the call and the request.
    """

    procedure: ProcedureInfo
    method: Callable[[Any, Any], Any]


class Responders:
    """
    The responders of one service or connection, collected from objects whose
    methods carry C{@X.responder}.

    An object may have a method C{admit_call(connection, number)}, a L{Guard}: it is
    asked before every call of the object's programs, also for procedures that nobody
    answers, and before the arguments are read.

    @param partial: permit a program with procedures that nobody answers.
    @raise ConfigurationError: two responders for one procedure, an object
        without any, or (unless C{partial}, or with a guard) a procedure without one.
    """

    def __init__(self, *objects: object, partial: bool = False) -> None:
        self._table: dict[tuple[int, int, int], Responder] = {}
        self._programs: dict[tuple[int, int], Any] = {}
        self._guards: dict[tuple[int, int], Guard] = {}
        for owner in objects:
            self._collect(owner)
        if not partial:
            self._check_complete()

    def _collect(self, owner: object) -> None:
        found = False
        for name in dir(type(owner)):
            requests = getattr(getattr(type(owner), name, None), "__responds_to__", ())
            for request in requests:
                found = True
                procedure: ProcedureInfo = request.__procedure__
                program = procedure.program
                key = (program.number, program.version, procedure.number)
                if key in self._table:
                    raise ConfigurationError(f"two responders for {program.name}.{procedure.name}")
                self._table[key] = Responder(procedure, getattr(owner, name))
                self._programs[key[:2]] = program
                guard = getattr(owner, "admit_call", None)
                if guard is not None:
                    self._guards[key[:2]] = guard
        if not found:
            raise ConfigurationError(f"{type(owner).__name__} has no method with @....responder")

    def _check_complete(self) -> None:
        for (number, version), program in self._programs.items():
            if (number, version) in self._guards:
                continue
            for request in program.procedures.values():
                procedure = request.__procedure__
                if procedure.kind is Kind.EVENT or (number, version, procedure.number) in self._table:
                    continue
                raise ConfigurationError(
                    f"no responder for {program.name}.{procedure.name}; add one, or serve with partial=True"
                )

    @property
    def table(self) -> Mapping[tuple[int, int, int], Responder]:
        """All responders, by program, version and procedure."""
        return self._table

    @property
    def programs(self) -> Collection[tuple[int, int]]:
        """The numbers and versions of the programs served."""
        return self._programs.keys()

    def find(self, program: int, version: int, number: int) -> Responder | None:
        """The responder of one procedure."""
        return self._table.get((program, version, number))

    def serves(self, program: int, version: int) -> bool:
        """Whether any procedure of this program version is answered."""
        return (program, version) in self._programs

    def guard(self, program: int, version: int) -> Guard | None:
        """What is asked before the calls of this program version."""
        return self._guards.get((program, version))

    def program(self, number: int, version: int) -> Any:
        """The Program served under these numbers, C{None} if there is none."""
        return self._programs.get((number, version))


def run_event(responder: Responder, call: Call, payload: bytes) -> None:
    """
    Give a received event to its responder.

    An event has no answer: what is wrong with it closes the connection, what
    goes wrong in the responder is logged.
    """
    try:
        event = responder.procedure.arguments.decode(payload)
    except PeerError as error:
        call.connection.link.fail("bad-event", str(error))
        return
    link = call.connection.link
    # A peer that sends events faster than they are done with is not read for a while.
    link.running_events += 1
    if link.running_events >= link.limits.event_queue:
        link.pause_reading("events")
    running = maybeDeferred(responder.method, call, event)

    def failed(failure: Failure) -> None:
        as_remote_error(failure.value, call.log)

    def done(_: object) -> None:
        link.running_events -= 1
        if link.running_events < link.limits.event_queue:
            link.resume_reading("events")

    running.addErrback(failed).addBoth(done)
