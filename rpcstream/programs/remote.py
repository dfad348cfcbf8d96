"""
libvirt's remote program, as far as rpcstream speaks it: the one place to import it from.

    >>> xml = await host.call(remote.DomainGetXMLDesc(domain.wire, flags=1))

A class is named after its procedure (DOMAIN_GET_XML_DESC is L{DomainGetXMLDesc});
numbers and layouts are facts of the protocol (wire-protocol.md section 7.4).
What lives here: finding a procedure by any of its names.  What must not: what
calls them (L{rpcstream.libvirt}).
"""

from __future__ import annotations

from rpcstream.programs.program import Program, Request
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
from rpcstream.programs.remote_types import REMOTE
from rpcstream.programs.remote_types import __all__ as _types
from rpcstream.programs.remote_volumes import *  # noqa: F403
from rpcstream.programs.remote_volumes import __all__ as _volumes

__all__ = ["find_procedure"]
__all__ += [*_connection, *_domain_life, *_domains, *_errors, *_events, *_pools, *_types, *_volumes]


def find_procedure(name: str, program: Program = REMOTE) -> type[Request] | None:
    """
    @param name: C{DomainGetInfo}, C{DOMAIN_GET_INFO}, C{REMOTE_PROC_DOMAIN_GET_INFO} or its number;
        case and underscores do not count.
    @return: the request class, C{None} if there is none.
    """
    if name.isascii() and name.isdecimal() and len(name) < 10:
        return program.procedures.get(int(name))
    wanted = name.replace("_", "").lower().removeprefix(f"{program.name}proc")
    for request in program.procedures.values():
        if request.__name__.lower() == wanted:
            return request
    return None
