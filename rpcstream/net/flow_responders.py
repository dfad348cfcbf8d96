"""
The flow program's own responders: HELLO, cancellation, subscriptions.

Every server answers them; stock libvirt clients never ask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rpcstream.errors import InvalidArgument, RPCFailed
from rpcstream.net.lane.negotiation import lane_features
from rpcstream.programs import flow
from rpcstream.programs.base import Kind
from rpcstream.programs.parameters import refuse_unknown_critical
from rpcstream.programs.parts import FEATURE as PARTS

if TYPE_CHECKING:
    from rpcstream.net.calls import Call

__all__ = ["FEATURES", "FLOW_VERSION", "SOFTWARE", "FlowResponders"]

FLOW_VERSION = 1
SOFTWARE = "rpcstream"
FEATURES = ("credit", "cancel", "events", PARTS)


class FlowResponders:
    """Answers the flow program on every connection."""

    @flow.Hello.responder
    def hello(self, call: Call, request: flow.Hello) -> flow.Welcome:
        """Agree on a version; streams opened from now on carry credit."""
        refuse_unknown_critical(request.parameters, ())
        if not request.version_min <= FLOW_VERSION <= request.version_max:
            raise RPCFailed(
                f"this side speaks flow version {FLOW_VERSION}, "
                f"the other {request.version_min} to {request.version_max}"
            )
        connection = call.connection
        core = connection.link.core
        initial = connection.limits.initial_credit_bytes
        if not core.peer_is_rpcstream:
            core.peer_is_rpcstream = True
            core.enable_credit(initial, request.initial_credit_bytes)
            connection.features = request.features
            connection.link.keepalive.start()
        features = FEATURES + lane_features(connection.limits)
        return flow.Welcome(FLOW_VERSION, SOFTWARE, initial, features, ())

    @flow.Cancel.responder
    def cancel(self, call: Call, event: flow.Cancel) -> None:
        """The caller of C{event.serial} has lost interest."""
        call.connection.cancel_call(event.serial)

    @flow.Subscribe.responder
    def subscribe(self, call: Call, request: flow.Subscribe) -> None:
        """Send events of this kind from now on."""
        call.connection.subscriptions.add(self._event_key(call, request))

    @flow.Unsubscribe.responder
    def unsubscribe(self, call: Call, request: flow.Unsubscribe) -> None:
        """Send them no more; harmless without a subscription."""
        call.connection.subscriptions.discard((request.program, request.version, request.number))

    def _event_key(self, call: Call, request: flow.Subscribe) -> tuple[int, int, int]:
        serving = call.connection.serving
        program = serving.program(request.program, request.version)
        kind = None if program is None else program.procedures.get(request.number)
        if kind is None or kind.__procedure__.kind is not Kind.EVENT:
            raise InvalidArgument("there is no such event")
        decision = serving.policy.decide(call.principal.name, kind.__procedure__.permission, None)
        if not decision.allowed:
            raise InvalidArgument(f"access denied: {decision.reason}")
        return request.program, request.version, request.number
