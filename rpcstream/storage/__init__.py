"""
Where bytes rest: pools, transfers into them, sources, digests.

Blocking code for threads; nothing of the network.
"""

from rpcstream.storage.aside import AsideFile
from rpcstream.storage.extents import (
    NOTHING_HELD,
    ContentDigest,
    Held,
    bitmap_of,
    extent_count,
    extent_digest,
    extent_length,
    indexes_of,
)
from rpcstream.storage.file_part import FilePart
from rpcstream.storage.files import FileOperations
from rpcstream.storage.listing import Entry, PartialEntry
from rpcstream.storage.names import check_name
from rpcstream.storage.pipes import PipeSource
from rpcstream.storage.pool import Finished, Pool
from rpcstream.storage.reading import digest_file
from rpcstream.storage.receiving import CommitOutcome, Receiving
from rpcstream.storage.sources import ContentKind, FileSource, Hole, Source, open_path

__all__ = [
    "NOTHING_HELD",
    "AsideFile",
    "CommitOutcome",
    "ContentDigest",
    "ContentKind",
    "Entry",
    "FileOperations",
    "FilePart",
    "FileSource",
    "Finished",
    "Held",
    "Hole",
    "PartialEntry",
    "PipeSource",
    "Pool",
    "Receiving",
    "Source",
    "bitmap_of",
    "check_name",
    "digest_file",
    "extent_count",
    "extent_digest",
    "extent_length",
    "indexes_of",
    "open_path",
]
