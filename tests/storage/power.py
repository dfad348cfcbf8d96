"""
A disk in memory whose power fails: what was not synced is dropped, torn or comes out of order.

L{PowerFiles} keeps two states of one small file system: what programs see, and
what is surely on the disk.  Between them lie operations, each of which a crash
keeps or loses by itself; a write is 512-byte sectors and perhaps a larger size.
fsync of a file or directory moves its operations to the disk, fdatasync of a
file all but its times and mode; that a file was made or renamed is the
directory's.  A rename between two directories is one operation, as every
journaling file system has it, and durable with either of them.
"""

from __future__ import annotations

import copy
import errno
import os
import stat
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

from rpcstream.storage import FileOperations

SECTOR = 512
BLOCK = 4096
ROOT = 1


class Node:
    """A file (C{data}) or directory (C{names}, which lead to node numbers)."""

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.data = bytearray()
        self.blocks: set[int] = set()
        self.names: dict[str, int] = {}
        self.changed_ns = 0


State = dict[int, Node]


class Change(NamedTuple):
    """
    One step from a state to the next.

    @ivar nodes: whose fsync makes it durable.
    @ivar is_data: whether fdatasync does, too.
    @ivar arguments: of the step, which is a function of the state.
    """

    nodes: tuple[int, ...]
    is_data: bool
    step: Callable[..., None]
    arguments: tuple[Any, ...]

    def apply(self, state: State) -> None:
        """Carry it out."""
        self.step(state, *self.arguments)

    def parts(self) -> Iterator[Change]:
        """What of it a crash may keep without the rest."""
        if self.step is not write:
            yield self
            return
        number, offset, data = self.arguments
        while data:
            # To the end of the sector that it begins in.
            count = SECTOR - offset % SECTOR
            yield self._replace(arguments=(number, offset, data[:count]))
            # The size may grow while the data does not come.
            yield self._replace(step=grow, arguments=(number, offset + len(data[:count])))
            offset, data = offset + count, data[count:]


def write(state: State, number: int, offset: int, data: bytes) -> None:
    node = state[number]
    grow(state, number, offset + len(data))
    node.data[offset : offset + len(data)] = data
    node.blocks.update(range(offset // BLOCK, (offset + len(data) - 1) // BLOCK + 1))


def grow(state: State, number: int, size: int) -> None:
    state[number].data.extend(bytes(max(0, size - len(state[number].data))))


def truncate(state: State, number: int, size: int) -> None:
    node = state[number]
    del node.data[size:]
    grow(state, number, size)
    node.blocks = {block for block in node.blocks if block * BLOCK < size}


def punch(state: State, number: int, offset: int, length: int) -> None:
    node = state[number]
    stop = min(offset + length, len(node.data))
    if stop > offset:
        node.data[offset:stop] = bytes(stop - offset)
    node.blocks -= set(range(-(-offset // BLOCK), (offset + length) // BLOCK))


def set_mode(state: State, number: int, mode: int) -> None:
    state[number].mode = stat.S_IFMT(state[number].mode) | mode


def set_time(state: State, number: int, changed_ns: int) -> None:
    state[number].changed_ns = changed_ns


def enter(state: State, directory: int, name: str, number: int) -> None:
    state[directory].names[name] = number


def leave(state: State, directory: int, name: str) -> None:
    state[directory].names.pop(name, None)


def rename(state: State, old: int, old_name: str, new: int, new_name: str) -> None:
    if old_name in state[old].names:
        state[new].names[new_name] = state[old].names.pop(old_name)


def exchange(state: State, old: int, old_name: str, new: int, new_name: str) -> None:
    one, other = state[old].names, state[new].names
    if old_name in one and new_name in other:
        one[old_name], other[new_name] = other[new_name], one[old_name]


class PowerFiles(FileOperations):
    """
    The file system; C{"/"} is the only absolute name.

    @ivar on_step: called after every operation that changes or syncs anything.
    @ivar can_exchange: whether two names can change places.
    """

    def __init__(self, *, can_exchange: bool = True) -> None:
        self.can_exchange = can_exchange
        self.state: State = {ROOT: Node(stat.S_IFDIR | 0o700)}
        self.disk: State = copy.deepcopy(self.state)
        self.pending: list[Change] = []
        self.on_step: Callable[[], None] = lambda: None
        self._fds: dict[int, int] = {}
        self._locks: dict[int, int] = {}
        self._next_fd = 1000
        self._next_node = ROOT + 1
        self._now_ns = 0

    # --- crashes --------------------------------------------------------------------

    def crashed(self, random: Random) -> PowerFiles:
        """The file system after a power loss now: all that was synced, and some of the rest."""
        after = PowerFiles(can_exchange=self.can_exchange)
        after._next_node, after._now_ns = self._next_node, self._now_ns
        disk = copy.deepcopy(self.disk)
        # Now and then nothing of it comes, or all; mostly something between.
        share = random.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for change in self.pending:
            for part in change.parts():
                if random.random() < share:
                    part.apply(disk)
        after.disk = disk
        after.state = copy.deepcopy(disk)
        return after

    def surely(self) -> PowerFiles:
        """As L{crashed}, when nothing came that was not synced."""
        after = PowerFiles(can_exchange=self.can_exchange)
        after.disk = copy.deepcopy(self.disk)
        after.state = copy.deepcopy(self.disk)
        return after

    def killed(self) -> PowerFiles:
        """The file system after all programs were killed now: nothing is lost, nor is it safe."""
        after = PowerFiles(can_exchange=self.can_exchange)
        after._next_node, after._now_ns = self._next_node, self._now_ns
        after.state, after.disk = copy.deepcopy((self.state, self.disk))
        after.pending = list(self.pending)
        return after

    def tree(self, number: int = ROOT) -> dict[str, bytes]:
        """The files below a directory, with their content."""
        found: dict[str, bytes] = {}
        for name, child in self.state[number].names.items():
            if stat.S_ISDIR(self.state[child].mode):
                found.update({f"{name}/{path}": data for path, data in self.tree(child).items()})
            else:
                found[name] = bytes(self.state[child].data)
        return found

    @property
    def open_count(self) -> int:
        """Descriptors that are open."""
        return len(self._fds)

    def _change(self, nodes: tuple[int, ...], step: Callable[..., None], *arguments: Any) -> None:
        change = Change(nodes, step in (write, truncate, punch), step, arguments)
        change.apply(self.state)
        self.pending.append(change)
        if change.is_data or step in (enter, leave):
            self._now_ns += 1
            self._later(nodes[0])
        self.on_step()

    def _later(self, number: int) -> None:
        change = Change((number,), False, set_time, (number, self._now_ns))
        change.apply(self.state)
        self.pending.append(change)

    def _sync(self, fd: int, only_data: bool) -> None:
        number, rest = self._fds[fd], []
        for change in self.pending:
            if number in change.nodes and (change.is_data or not only_data):
                change.apply(self.disk)
            else:
                rest.append(change)
        self.pending = rest
        self.on_step()

    # --- the seam --------------------------------------------------------------------

    def open(self, name: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
        if dir_fd is None:
            number = ROOT
        else:
            directory = self._fds[dir_fd]
            names = self.state[directory].names
            if name not in names:
                if not flags & os.O_CREAT:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
                self._make(directory, name, stat.S_IFREG | mode)
            elif flags & os.O_EXCL:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            number = names[name]
        self._next_fd += 1
        self._fds[self._next_fd] = number
        return self._next_fd

    def _make(self, directory: int, name: str, mode: int) -> None:
        number = self._next_node
        self._next_node += 1
        # An inode that nothing leads to is no harm; its content is durable by its own fsync.
        self.state[number], self.disk[number] = Node(mode), Node(mode)
        self._change((directory,), enter, directory, name, number)

    def close(self, fd: int) -> None:
        number = self._fds.pop(fd)
        if self._locks.get(number) == fd:
            del self._locks[number]

    def lock(self, fd: int) -> bool:
        return self._locks.setdefault(self._fds[fd], fd) == fd

    def _node(self, fd: int) -> Node:
        return self.state[self._fds[fd]]

    def pread(self, fd: int, byte_count: int, offset: int) -> bytes:
        return bytes(self._node(fd).data[offset : offset + byte_count])

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self._change((self._fds[fd],), write, self._fds[fd], offset, bytes(data))
        return len(data)

    def start_writeback(self, fd: int, offset: int, length: int) -> None:
        """Makes nothing durable."""

    def drop_cache(self, fd: int, offset: int, length: int) -> None:
        """Changes nothing that can be seen."""

    def reserve(self, fd: int, offset: int, length: int) -> None:
        grow(self.state, self._fds[fd], offset + length)

    def is_in_memory(self, fd: int) -> bool:
        return False

    def free_bytes(self, fd: int) -> int:
        return 1 << 40

    def fdatasync(self, fd: int) -> None:
        self._sync(fd, True)

    def fsync(self, fd: int) -> None:
        self._sync(fd, False)

    def ftruncate(self, fd: int, size_bytes: int) -> None:
        self._change((self._fds[fd],), truncate, self._fds[fd], size_bytes)

    def punch(self, fd: int, offset: int, length: int) -> None:
        self._change((self._fds[fd],), punch, self._fds[fd], offset, length)

    def seek(self, fd: int, offset: int, whence: int) -> int:
        node = self._node(fd)
        if whence == os.SEEK_END:
            return len(node.data) + offset
        if offset >= len(node.data):
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        while offset < len(node.data) and (offset // BLOCK in node.blocks) != (whence == os.SEEK_DATA):
            offset = (offset // BLOCK + 1) * BLOCK
        if whence == os.SEEK_DATA and offset >= len(node.data):
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        return min(offset, len(node.data))

    def fstat(self, fd: int) -> os.stat_result:
        return self._stat(self._fds[fd])

    def stat(self, name: str, *, dir_fd: int | None = None) -> os.stat_result:
        assert dir_fd is not None
        return self._stat(self._find(dir_fd, name))

    def _find(self, dir_fd: int, name: str) -> int:
        try:
            return self._node(dir_fd).names[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from None

    def _stat(self, number: int) -> os.stat_result:
        node = self.state[number]
        link_count = sum(list(each.names.values()).count(number) for each in self.state.values())
        fields = (node.mode, number, 1, link_count, os.geteuid(), os.getegid(), len(node.data), 0, 0, 0)
        more = {"st_mtime_ns": node.changed_ns, "st_blocks": len(node.blocks) * (BLOCK // 512)}
        return os.stat_result(fields, more)

    def fchmod(self, fd: int, mode: int) -> None:
        self._change((self._fds[fd],), set_mode, self._fds[fd], mode)

    def link(self, old: str, new: str, *, old_dir_fd: int, new_dir_fd: int) -> None:
        number, directory = self._find(old_dir_fd, old), self._fds[new_dir_fd]
        if new in self.state[directory].names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
        self._change((directory,), enter, directory, new, number)

    def rename(self, old: str, new: str, *, old_dir_fd: int, new_dir_fd: int) -> None:
        self._find(old_dir_fd, old)
        nodes = (self._fds[new_dir_fd], self._fds[old_dir_fd])
        self._change(nodes, rename, nodes[1], old, nodes[0], new)

    def exchange(self, old: str, new: str, *, old_dir_fd: int, new_dir_fd: int) -> None:
        if not self.can_exchange:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._find(old_dir_fd, old), self._find(new_dir_fd, new)
        nodes = (self._fds[new_dir_fd], self._fds[old_dir_fd])
        self._change(nodes, exchange, nodes[1], old, nodes[0], new)

    def unlink(self, name: str, *, dir_fd: int) -> None:
        self._find(dir_fd, name)
        self._change((self._fds[dir_fd],), leave, self._fds[dir_fd], name)

    def mkdir(self, name: str, mode: int, *, dir_fd: int | None = None) -> None:
        assert dir_fd is not None
        if name in self._node(dir_fd).names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        self._make(self._fds[dir_fd], name, stat.S_IFDIR | mode)

    def listdir(self, fd: int) -> list[str]:
        return list(self._node(fd).names)
