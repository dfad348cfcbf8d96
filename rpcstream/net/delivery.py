"""
From what the core has received to whom it concerns: streams, and the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rpcstream.core import events
from rpcstream.wire.error import remote_error

if TYPE_CHECKING:
    from rpcstream.net.link import Link

__all__ = ["deliver_event"]


def deliver_event(link: Link, event: Any) -> None:
    """Tell of anything but stream data, which the link tells itself."""
    match event:
        case events.CallReceived():
            link.session.call_received(event)
        case events.ReplyReceived():
            link.session.reply_received(event)
        case events.ReplyFailed():
            link.session.reply_failed(event)
        case events.MessageReceived():
            link.session.message_received(event)
        case events.StreamHole(stream=stream, length_bytes=length):
            stream.tag.hole_received(length)
        case events.StreamEnded(stream=stream):
            stream.tag.end_received()
        case events.FinishRequested(stream=stream):
            stream.tag.finish_requested()
        case events.FinishConfirmed(stream=stream):
            stream.tag.finish_confirmed()
        case events.StreamAborted(stream=stream, reason=reason):
            stream.tag.peer_aborted(reason)
        case events.StreamFailed(stream=stream, error=error):
            stream.tag.stream_failed(remote_error(error, stream.tag.errors))
        case events.CreditGranted(stream=stream):
            stream.tag.credit_granted()
        case events.ConnectionFailed(code=code, detail=detail):
            link.fail(code, detail)
