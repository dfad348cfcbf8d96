"""
libvirt's remote program, as far as rpcstream speaks it: the one place to import it from.

    >>> xml = await host.call(remote.DomainGetXMLDesc(domain.wire, flags=1))

A class is named after its procedure (DOMAIN_GET_XML_DESC is L{DomainGetXMLDesc});
numbers and layouts are facts of the protocol (wire-protocol.md section 7.4).
What must not live here: what calls them (L{rpcstream.libvirt}).
"""

from __future__ import annotations

from rpcstream.programs.remote_connection import *  # noqa: F403
from rpcstream.programs.remote_connection import __all__ as _connection
from rpcstream.programs.remote_domain_life import *  # noqa: F403
from rpcstream.programs.remote_domain_life import __all__ as _domain_life
from rpcstream.programs.remote_domains import *  # noqa: F403
from rpcstream.programs.remote_domains import __all__ as _domains
from rpcstream.programs.remote_errors import *  # noqa: F403
from rpcstream.programs.remote_errors import __all__ as _errors
from rpcstream.programs.remote_events import *  # noqa: F403
from rpcstream.programs.remote_events import __all__ as _events
from rpcstream.programs.remote_pools import *  # noqa: F403
from rpcstream.programs.remote_pools import __all__ as _pools
from rpcstream.programs.remote_types import *  # noqa: F403
from rpcstream.programs.remote_types import __all__ as _types
from rpcstream.programs.remote_volumes import *  # noqa: F403
from rpcstream.programs.remote_volumes import __all__ as _volumes

__all__ = [*_connection, *_domain_life, *_domains, *_errors, *_events, *_pools, *_types, *_volumes]
