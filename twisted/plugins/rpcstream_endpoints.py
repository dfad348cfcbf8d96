"""
Offers C{rpctls:} descriptions to every Twisted program (see
L{rpcstream.net.endpoints}).  Kept small: Twisted imports it to list its plugins.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer


@implementer(IPlugin, IStreamServerEndpointStringParser, IStreamClientEndpointStringParserWithReactor)
class RPCTLSParser:
    """Both parsers of C{rpctls:}."""

    prefix = "rpctls"

    def parseStreamServer(self, reactor: Any, *args: Any, **kwargs: Any) -> IStreamServerEndpoint:
        from rpcstream.net.endpoints import parse_tls_server

        return parse_tls_server(reactor, args, kwargs)

    def parseStreamClient(self, reactor: Any, *args: Any, **kwargs: Any) -> IStreamClientEndpoint:
        from rpcstream.net.endpoints import parse_tls_client

        return parse_tls_client(reactor, args, kwargs)


rpctls = RPCTLSParser()
