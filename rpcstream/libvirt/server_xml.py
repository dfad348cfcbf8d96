"""
Pools and volumes as XML, and back: what libvirt's storage XML says of plain files.

Out goes what C{xml.etree} builds; in comes the peer's, by C{defusedxml} and a
short list of elements.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Final, NamedTuple
from uuid import UUID
from xml.etree.ElementTree import Element, ParseError, SubElement, indent, tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from rpcstream.errors import RemoteError
from rpcstream.libvirt.server_errors import (
    STORAGE,
    bad_xml,
    invalid_argument,
    operation_invalid,
    unsupported_configuration,
)
from rpcstream.storage.listing import Entry
from rpcstream.storage.volumes import Space

__all__ = ["CAPABILITIES", "NewVolume", "parse_volume", "pool_xml", "volume_xml"]

XML_BYTES = 64 * 1024
"""Longest description of a volume taken; those of virsh have a few hundred bytes."""

_XML_DETAIL = 35

CAPABILITIES = """<capabilities>
  <pool>
    <enum name='type'>
      <value>dir</value>
    </enum>
  </pool>
</capabilities>
"""

_UNITS: Final[dict[str, int]] = {
    "": 1, "b": 1, "byte": 1, "bytes": 1,
    **{
        letter.lower() + suffix: (1000 if suffix == "b" else 1024) ** power
        for power, letter in enumerate("KMGTPE", 1)
        for suffix in ("", "b", "ib")
    },
}  # fmt: skip

# What libvirt itself puts into the XML of a volume that it describes; it decides nothing about a new one.
_IGNORED = frozenset({"key", "physical", "source"})
_TARGET_IGNORED = frozenset({"path", "timestamps"})


class NewVolume(NamedTuple):
    """
    @ivar mode: permission bits, C{None} for the pool's.
    """

    name: str
    capacity_bytes: int
    allocation_bytes: int
    mode: int | None


def parse_volume(text: str) -> NewVolume:
    """
    The description of a volume that is to be made: name, capacity, allocation, format raw, mode.

    @raise RemoteError: as libvirt words it: it is not XML, something is missing, or it asks for
        what plain files have not.
    """
    root = _root(text)
    if root.tag != "volume":
        raise bad_xml(f"expecting root element of 'volume', not '{root.tag}'")
    if root.get("type", "file") != "file":
        raise unsupported_configuration(f"volumes of type '{root.get('type')}'; there are plain files only")
    known: dict[str, Element] = {}
    for child in root:
        if child.tag not in {"name", "capacity", "allocation", "target", *_IGNORED}:
            raise unsupported_configuration(f"element '{child.tag}' of a volume")
        if known.setdefault(child.tag, child) is not child:
            raise bad_xml(f"more than one {child.tag} element")
    if "name" not in known or not known["name"].text:
        raise bad_xml("missing volume name element")
    name = known["name"].text or ""
    if "/" in name:
        raise operation_invalid(f"volume name '{name}' cannot contain '/'")
    if "capacity" not in known:
        raise bad_xml("missing capacity element")
    capacity = _size(known["capacity"])
    allocation = _size(known["allocation"]) if "allocation" in known else capacity
    return NewVolume(name, capacity, allocation, _target(known.get("target")))


def _root(text: str) -> Element:
    try:
        if len(text) > XML_BYTES:
            raise ValueError("it is longer than the description of any volume")
        root: Element = fromstring(text, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        reason = f"(storage_volume_definition): {error}"
        raise RemoteError(reason, code=_XML_DETAIL, domain=STORAGE, str1="%s", str2=reason) from None
    return root


def _size(element: Element) -> int:
    text = (element.text or "").strip()
    if not re.fullmatch(r"[0-9]{1,20}", text):
        raise bad_xml(f"malformed {element.tag} element")
    unit = element.get("unit", "").lower()
    if unit not in _UNITS:
        raise invalid_argument(f"unknown suffix '{element.get('unit')}'")
    size = int(text) * _UNITS[unit]
    if size >= 1 << 63:
        raise invalid_argument(f"{element.tag} is too large")
    return size


def _target(target: Element | None) -> int | None:
    """The mode that a volume's target asks for."""
    mode = None
    for child in target if target is not None else ():
        if child.tag == "format":
            kind = child.get("type", "raw")
            if kind != "raw":
                raise unsupported_configuration(f"volumes of format '{kind}'; there are raw ones only")
        elif child.tag == "permissions":
            mode = _mode(child)
        elif child.tag not in _TARGET_IGNORED:
            raise unsupported_configuration(f"element '{child.tag}' of a volume's target")
    return mode


def _mode(permissions: Element) -> int | None:
    text = permissions.findtext("mode")
    if text is None:
        return None
    if not re.fullmatch(r"[0-7]{1,4}", text) or int(text, 8) > 0o777:
        raise bad_xml("malformed octal mode")
    return int(text, 8)


# --- out -------------------------------------------------------------------------------------


def pool_xml(name: str, uuid: UUID, path: str, space: Space, found: os.stat_result) -> str:
    """@param found: of the pool's directory."""
    pool = Element("pool", type="dir")
    _add(pool, "name", name)
    _add(pool, "uuid", str(uuid))
    _add_size(pool, "capacity", space.capacity_bytes)
    _add_size(pool, "allocation", space.capacity_bytes - space.available_bytes)
    _add_size(pool, "available", space.available_bytes)
    SubElement(pool, "source")
    target = SubElement(pool, "target")
    _add(target, "path", path)
    _add_permissions(target, found)
    return _text(pool)


def volume_xml(entry: Entry, path: str, found: os.stat_result) -> str:
    """@param found: of the file or the device's node."""
    is_device = bool(entry.kind)
    volume = Element("volume", type="block" if is_device else "file")
    _add(volume, "name", entry.name)
    _add(volume, "key", path)
    _add_size(volume, "capacity", entry.size_bytes)
    _add_size(volume, "allocation", entry.allocated_bytes)
    _add_size(volume, "physical", entry.size_bytes)
    target = SubElement(volume, "target")
    _add(target, "path", path)
    SubElement(target, "format", type="raw")
    _add_permissions(target, found)
    timestamps = SubElement(target, "timestamps")
    for tag, nanoseconds in (
        ("atime", found.st_atime_ns), ("mtime", found.st_mtime_ns), ("ctime", found.st_ctime_ns),
    ):  # fmt: skip
        _add(timestamps, tag, f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}")
    return _text(volume)


def _add(parent: Element, tag: str, text: str) -> None:
    SubElement(parent, tag).text = text


def _add_size(parent: Element, tag: str, size: int) -> None:
    SubElement(parent, tag, unit="bytes").text = str(size)


def _add_permissions(target: Element, found: os.stat_result) -> None:
    permissions = SubElement(target, "permissions")
    _add(permissions, "mode", f"{stat.S_IMODE(found.st_mode):04o}")
    _add(permissions, "owner", str(found.st_uid))
    _add(permissions, "group", str(found.st_gid))


def _text(element: Element) -> str:
    indent(element)
    return tostring(element, encoding="unicode") + "\n"
