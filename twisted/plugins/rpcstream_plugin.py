"""
Offers C{twistd rpcstream} (see L{rpcstream.tap}).  Kept small: Twisted imports it
to list its plugins.
"""

from __future__ import annotations

from twisted.application.service import ServiceMaker

rpcstream = ServiceMaker(
    "rpcstream", "rpcstream.tap", "Files and data streams over one TLS connection.", "rpcstream"
)
