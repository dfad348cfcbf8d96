"""
The libvirt server: a destination's pools for stock virsh and libvirt-python.

C{virsh -c 'storage+tls://HOST:PORT/system?pkipath=DIR' vol-upload --pool default NAME FILE}

What lives here: putting the responders together.  The pools are those of the
transfer program; what libvirt can do and this server cannot gets libvirt's own
"not supported" error.
"""

from __future__ import annotations

from collections.abc import Mapping

from rpcstream.libvirt.server_connection import ConnectionResponders
from rpcstream.libvirt.server_keys import KeyFile
from rpcstream.libvirt.server_pools import PoolResponders, PoolTable
from rpcstream.libvirt.server_sasl import AuthResponders
from rpcstream.libvirt.server_session import Sessions
from rpcstream.libvirt.server_streams import StreamResponders
from rpcstream.libvirt.server_volumes import VolumeResponders
from rpcstream.net.responders import Responders
from rpcstream.net.threads import Runner
from rpcstream.programs.remote import REMOTE
from rpcstream.storage.pool import Pool

__all__ = ["libvirt_responders"]


def libvirt_responders(
    pools: Mapping[str, Pool], runner: Runner, keys: KeyFile | None = None
) -> tuple[object, ...]:
    """
    Objects to give to L{serve<rpcstream.net.service.serve>}.

    @param pools: by name; C{"default"} is the one that people expect.
    @param runner: where disks are waited for.
    @param keys: of users that SASL is asked of; C{None}: TLS or the socket is enough.
    """
    sessions = Sessions()
    table = PoolTable(pools)
    responders = (
        ConnectionResponders(sessions),
        AuthResponders(sessions, keys, runner),
        PoolResponders(table, runner),
        VolumeResponders(table, runner),
        StreamResponders(table, runner),
    )
    collected = Responders(*responders, partial=True)
    sessions.serves = frozenset(
        number for number in REMOTE.procedures if collected.find(REMOTE.number, REMOTE.version, number)
    )
    return responders
