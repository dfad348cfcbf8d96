"""
A compiler for rpcgen C{.x} files: RFC 4506, RFC 5531's program blocks, and libvirt's conventions.

C{load(path)} gives an L{Interface}: request classes of the same kind as those that
are declared in Python, found by class name, by C's name or by number.  The way in
is L{rpcstream.programs.xdrfile.interface}; lark is imported when a file is loaded.
"""

from rpcstream.programs.xdrfile.describe import describe, layout_text
from rpcstream.programs.xdrfile.errors import BadXDRFile
from rpcstream.programs.xdrfile.interface import Interface, compile_text, interface_of, load
from rpcstream.programs.xdrfile.json_values import (
    from_json,
    read_json,
    request_from_json,
    request_to_json,
    result_to_json,
    to_json,
)
from rpcstream.programs.xdrfile.procedures import DeclaredProcedure

__all__ = [
    "BadXDRFile",
    "DeclaredProcedure",
    "Interface",
    "compile_text",
    "describe",
    "from_json",
    "interface_of",
    "layout_text",
    "load",
    "read_json",
    "request_from_json",
    "request_to_json",
    "result_to_json",
    "to_json",
]
