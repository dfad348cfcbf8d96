"""
The destination service: pools, served by the transfer program, and to libvirt's clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.internet import TimerService
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger

from rpcstream.errors import ConfigurationError
from rpcstream.libvirt.server import libvirt_responders
from rpcstream.libvirt.server_keys import KeyFile
from rpcstream.net.pki import Pki
from rpcstream.net.service import RPCService, serve
from rpcstream.net.threads import ThreadRunner
from rpcstream.services.config import Config, LibvirtConfig, load_config
from rpcstream.services.tracked_runner import TrackedRunner
from rpcstream.services.transfers import TransferResponders
from rpcstream.storage.pool import Pool

__all__ = ["DEFAULT_POOL", "DestinationService", "destination_service"]

DEFAULT_POOL = "default"
"""The pool of C{--store}, and of requests that name none."""
DAY_SECONDS = 86400.0


class DestinationService(MultiService):
    """
    See L{destination_service}.

    A stopped service is not started again: make a new one.

    @ivar rpc: what listens; C{rpc.ports} tells where.
    @ivar pools: by name, open while the service runs.
    """

    log = Logger()

    def __init__(
        self,
        listen: Sequence[str],
        store: Path,
        config: Config,
        *,
        pki: str | Path | None,
        insecure: bool,
        thread_count: int,
        reactor: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pools: dict[str, Pool] = {}
        self._store = store
        self._config = config
        self._pki = pki
        self._threads = ThreadRunner(reactor, thread_count, "rpcstream destination")
        self._runner = TrackedRunner(self._threads)
        self.rpc: RPCService = serve(
            listen,
            TransferResponders(self.pools, self._runner),
            *self._for_libvirt(config.libvirt),
            policy=config.policy,
            pki=pki,
            insecure=insecure,
            limits=config.limits,
            runner=self._runner,
            reactor=reactor,
        )
        self.rpc.setServiceParent(self)  # type: ignore[no-untyped-call]
        expiring = TimerService(DAY_SECONDS, self._expire)
        expiring.clock = reactor
        expiring.setServiceParent(self)

    def _for_libvirt(self, config: LibvirtConfig) -> tuple[object, ...]:
        """@raise ConfigurationError: the file with keys cannot be used."""
        if not config.enabled:
            return ()
        keys = None if config.key_file is None else KeyFile(config.key_file)
        if keys is not None:
            keys.load()
        return libvirt_responders(self.pools, self._runner, keys)

    def startService(self) -> None:
        """
        Open the pools, finish what a crash interrupted, and serve.

        @raise ConfigurationError: a pool cannot be used.
        """
        # Not earlier: what the pools make must belong to the user that twistd changes to.
        try:
            self._open_pools()
        except BaseException:
            self._close_pools()
            raise
        self._warn()
        super().startService()  # type: ignore[no-untyped-call]

    def _warn(self) -> None:
        for warning in self._config.warnings:
            self.log.warn("{text}", text=warning)
        if self._pki is not None and Pki(self._pki).has_credentials("server"):
            for fault in Pki(self._pki).faults("server"):
                self.log.warn("clients will refuse this server: {fault}", fault=fault)

    def _open_pools(self) -> None:
        config = self._config
        self.pools[DEFAULT_POOL] = Pool(
            self._store,
            name=DEFAULT_POOL,
            devices={device.name: device.path for device in config.devices.values()},
            quota_bytes=config.store.quota_bytes,
            mode=config.store.mode,
            limits=config.limits,
        )
        for pool in config.pools.values():
            self.pools[pool.name] = Pool(
                pool.directory,
                name=pool.name,
                quota_bytes=pool.quota_bytes,
                mode=pool.mode,
                limits=config.limits,
            )

    def stopService(self) -> Deferred[None]:
        """
        Stop listening, close the connections, keep what is durable of unfinished
        transfers; fires when no thread is left.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        stopping: Deferred[Any] = maybeDeferred(super().stopService)
        await stopping.addErrback(partial(self.log.failure, "the service was not stopped in order"))
        # Transfers whose client is gone are still being put away.
        await self._runner.when_idle()
        await self._runner.run(self._close_pools)
        self._threads.stop()

    def _close_pools(self) -> None:
        while self.pools:
            _, pool = self.pools.popitem()
            pool.close()

    def _expire(self) -> Deferred[Any]:
        expiring: Deferred[Any] = DeferredList(
            [self._runner.run(pool.expire).addCallback(self._expired, pool) for pool in self.pools.values()],
            fireOnOneErrback=True,
            consumeErrors=True,
        )
        return expiring.addErrback(partial(self.log.failure, "old partials cannot be removed"))

    def _expired(self, names: list[str], pool: Pool) -> None:
        for name in names:
            self.log.info("removed the abandoned partial of {name} in {pool}", name=name, pool=pool.name)


def destination_service(
    listen: str | Sequence[str],
    store: str | Path,
    *,
    pki: str | Path | None = None,
    config: Config | None = None,
    insecure: bool = False,
    thread_count: int = 8,
    reactor: Any = None,
) -> DestinationService:
    """
    A service that receives and serves the content of pools.

    @param listen: C{rpctls:PORT...}, C{unix:PATH}, or with C{insecure} any
        Twisted server description.
    @param store: directory of the pool called C{default}.
    @param pki: directory of certificates, for endpoints that name none.
    @param config: see L{rpcstream.services.config}; default: no file.
    @param insecure: serve peers that prove nothing, too.
    @param thread_count: disks are read and written by so many threads.
    @return: a service; give it a parent, or start it.
    @raise ConfigurationError: an argument cannot be used; the text names the remedy.
    """
    if reactor is None:
        from twisted.internet import reactor
    config = load_config(None, insecure=insecure) if config is None else config
    descriptions = [listen] if isinstance(listen, str) else list(listen)
    if not descriptions:
        raise ConfigurationError("no endpoint is named: say where to listen, with --listen rpctls:PORT")
    # Absolute now: twistd changes the directory when it becomes a daemon.
    directory = Path(store).absolute()
    places = {DEFAULT_POOL: directory, **{pool.name: pool.directory for pool in config.pools.values()}}
    for name, place in places.items():
        if not place.is_dir():
            raise ConfigurationError(f"pool {name}: there is no directory {place}; make it: mkdir {place}")
    if len({place.resolve() for place in places.values()}) < len(places):
        raise ConfigurationError("two pools are the same directory; give each one of its own")
    return DestinationService(
        descriptions,
        directory,
        config,
        pki=pki,
        insecure=insecure,
        thread_count=thread_count,
        reactor=reactor,
    )
