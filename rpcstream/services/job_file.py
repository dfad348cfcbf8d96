"""
Opening the job queue's file: who may read it, its schema and version.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

from rpcstream.errors import ConfigurationError

__all__ = ["SCHEMA_VERSION", "open_job_file"]

SCHEMA_VERSION = 1
"""Kept in C{user_version}; a new one comes with a step that converts from the last."""

# States are stored by name: a renumbered enumeration must not turn failed jobs
# into running ones.  AUTOINCREMENT: a pruned job's number is never given again.
_SCHEMA = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    replace_existing INTEGER NOT NULL,
    sparse INTEGER NOT NULL,
    mode INTEGER,
    retry INTEGER NOT NULL,
    state TEXT NOT NULL
        CHECK (state IN ('QUEUED', 'RUNNING', 'COMMITTING', 'DONE', 'FAILED', 'CANCELLED')),
    byte_count INTEGER NOT NULL DEFAULT 0,
    size INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    message TEXT NOT NULL DEFAULT '',
    digest BLOB,
    transfer_id BLOB NOT NULL UNIQUE CHECK (length(transfer_id) = 16),
    submitted_ns INTEGER NOT NULL,
    changed_ns INTEGER NOT NULL,
    due_ns INTEGER NOT NULL
);
CREATE INDEX jobs_due ON jobs (due_ns, id) WHERE state = 'QUEUED';
"""


def open_job_file(path: Path) -> sqlite3.Connection:
    """
    Open the queue, making file (0600) and directory (0700) if they are missing.

    The connection is in autocommit mode, may change threads, and holds the file
    for itself until it is closed.

    @raise ConfigurationError: it cannot be used; the text names the remedy.
    """
    try:
        _make_directory(path.parent)
        _make_file(path)
    except OSError as error:
        raise ConfigurationError(f"job queue {path}: {error.strerror}") from error
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise ConfigurationError(f"job queue {path}: {_explained(error)}") from error
    return connection


def _make_directory(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    # Whoever may write there could put another file in the queue's place.
    if status.st_uid != os.geteuid():
        raise ConfigurationError(f"{directory} belongs to another user; the job queue needs one of its own")
    if status.st_mode & 0o077:
        raise ConfigurationError(
            f"{directory} is open to other users; the job queue needs a directory of its own: "
            f"chmod 700 {directory}"
        )


def _make_file(path: Path) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"job queue {path} is not a regular file")
    if status.st_mode & 0o077:
        raise ConfigurationError(f"job queue {path} is open to other users: chmod 600 {path}")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    # Exclusive: two services on one queue would each run the other's jobs.
    # Before WAL, so that no shared-memory file is needed.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            raise ConfigurationError(f"{path} is the database of some other program")
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    elif version != SCHEMA_VERSION:
        raise ConfigurationError(
            f"job queue {path} has version {version}, this rpcstream knows {SCHEMA_VERSION}: "
            "use the rpcstream that wrote it"
        )
    connection.execute("COMMIT")


def _explained(error: sqlite3.Error) -> str:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another source service uses it; stop that one, or give this one a queue of its own"
    return str(error)
