"""
The flow program: what two rpcstream peers agree on, and credit for streams.

HELLO is the first call on a connection.  A stock libvirt peer answers it with
an error, and then nothing else of this program is used.  Credit is an event
that the core handles itself; none of its events is ever subscribed to.
"""

from __future__ import annotations

from typing import Annotated

from rpcstream.programs.base import Event, Procedure, Program
from rpcstream.programs.parameters import Parameters
from rpcstream.wire import Int, Max, Struct, UHyper, UInt

__all__ = ["FLOW", "Cancel", "Credit", "Hello", "Lost", "Subscribe", "Unsubscribe", "Welcome"]

FLOW = Program("flow", number=0x666C6F77, version=1)

SoftwareName = Annotated[str, Max(64)]
"""Name and version of a program, for logs."""
FeatureNames = Annotated[tuple[Annotated[str, Max(64)], ...], Max(64)]
"""What a peer can do beyond the version."""


class Welcome(Struct):
    """
    The answer to L{Hello}.

    @ivar version: the version of this program that both will use.
    @ivar initial_credit_bytes: what the caller may send on a new stream before
        it needs credit.
    """

    version: UInt
    software: SoftwareName
    initial_credit_bytes: UHyper
    features: FeatureNames = ()
    parameters: Parameters = ()


class Hello(Procedure[Welcome], program=FLOW, number=1, permission="flow", idempotent=True):
    """
    The first call between rpcstream peers.

    @ivar version_min: oldest version of this program that the caller speaks.
    @ivar version_max: newest one.
    @ivar initial_credit_bytes: what the responder may send on a new stream
        before it needs credit.
    """

    version_min: UInt
    version_max: UInt
    software: SoftwareName
    initial_credit_bytes: UHyper
    features: FeatureNames = ()
    parameters: Parameters = ()


class Credit(Event, program=FLOW, number=2, permission="flow"):
    """
    More may be sent on the stream that the first four fields name.

    @ivar byte_count: payload and header bytes, on top of what is left.
    """

    program: UInt
    version: UInt
    procedure: Int
    serial: UInt
    byte_count: UHyper


class Cancel(Event, program=FLOW, number=3, permission="flow"):
    """The caller no longer waits for the reply to the call C{serial}."""

    serial: UInt
    reason: Annotated[str, Max(1024)] = ""


class Subscribe(Procedure[None], program=FLOW, number=4, permission="flow", idempotent=True):
    """From the reply on, events of this program and number are sent to the caller."""

    program: UInt
    version: UInt
    number: Int


class Unsubscribe(Procedure[None], program=FLOW, number=5, permission="flow", idempotent=True):
    """The opposite of L{Subscribe}."""

    program: UInt
    version: UInt
    number: Int


class Lost(Event, program=FLOW, number=6, permission="flow"):
    """
    Events that the other side subscribed to were dropped, because it did not read.

    @ivar count: how many of this program and number.
    """

    program: UInt
    version: UInt
    number: Int
    count: UHyper
