"""
Values as JSON and back, strictly, by their declared layout.

  - integers: a number, all 64 bits of it (JavaScript would round)
  - float, double: a number; or C{"NaN"}, C{"Infinity"}, C{"-Infinity"}
  - bool: C{true} or C{false}
  - enum: the name of the member; its number is taken as well
  - string: a string; a byte that is not UTF-8 is C{"\\udc80"} to C{"\\udcff"},
    as Python's surrogateescape has it
  - opaque and char arrays: hexadecimal digits; an object with the one key
    C{"base64"} is taken as well, and for 16 bytes a UUID with its hyphens
  - arrays: a list
  - optional: the value or C{null}; a field may then be left out
  - union: an object, C{"type"} the number of the arm and C{"value"} its value
  - void: C{null}
  - struct: an object with all fields, but for those with a default; an
    underscore that a name was given (C{from_}) stays

Errors are L{BadValue} with the field in the form that codecs use: C{disks[2].name}.
Limits and ranges are those of the codec, which is asked before anything is returned.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from rpcstream.errors import BadValue
from rpcstream.programs.program import ProcedureInfo, Request
from rpcstream.programs.xdrfile.constructs import Later, OpenUnion, unnamed
from rpcstream.wire import Codec, composite, xdr

__all__ = ["from_json", "read_json", "request_from_json", "request_to_json", "result_to_json", "to_json"]

R = TypeVar("R", bound=Request)

_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_UUID_BYTES = 16
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def read_json(text: str | bytes) -> Any:
    """
    Parse JSON, and refuse what C{json.loads} lets pass: a key that is there twice,
    C{NaN} outside a string, endless nesting.

    @raise BadValue: it is not JSON; the field is C{""}.
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise BadValue("", "not JSON: nested too deeply") from None
    except ValueError as error:
        raise BadValue("", f"not JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise BadValue(next(name for name in names if names.count(name) > 1), "is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise BadValue("", f'not JSON: {name}; write "{name}"')


def request_from_json(request: type[R], data: Any) -> R:
    """
    A request of its fields.

    @param data: an object; C{None} for a request without fields.
    @raise BadValue: a field is missing, unknown, or does not fit.
    """
    return cast("R", from_json(request.__procedure__.arguments, {} if data is None else data))


def request_to_json(request: Request) -> dict[str, Any]:
    """The fields of a request or an event."""
    return cast("dict[str, Any]", to_json(request.__procedure__.arguments, request))


def result_to_json(info: ProcedureInfo | type[Request], value: Any) -> Any:
    """
    What a reply carried, as JSON.

    @param info: the C{__procedure__} of the request class, or that class.
    """
    if not isinstance(info, ProcedureInfo):
        info = info.__procedure__
    return to_json(info.result, value)


def from_json(codec: Codec[Any], data: Any) -> Any:
    """
    The value that JSON stands for, by the layout of a codec.

    @raise BadValue: it stands for none.
    """
    try:
        value = _read(codec.construct, data, "")
    except RecursionError:
        raise BadValue("", "nested too deeply") from None
    # Ranges, limits, text: what the codec refuses cannot be sent.
    codec.encode(value)
    return value


def to_json(codec: Codec[Any], value: Any) -> Any:
    """
    The JSON for a value; C{json.dumps} makes pure ASCII of it if it is left alone.

    @raise BadValue: the value is not of this layout.
    """
    try:
        return _write(codec.construct, value)
    except Exception:
        # The codec says what is wrong with it.
        codec.encode(value)
        raise


# --- from JSON ------------------------------------------------------------------------


def _read(declaration: Any, data: Any, path: str) -> Any:
    declaration = unnamed(declaration)
    if isinstance(declaration, Later):
        declaration = unnamed(declaration.target)
    read = _READERS.get(type(declaration))
    if read is None:
        raise BadValue(path, f"has no form in JSON ({type(declaration).__name__})")
    return read(declaration, data, path)


def _inside(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _kind(data: Any) -> str:
    """What a JSON value is called."""
    if data is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(data), "an object")


def _wrong(path: str, data: Any, wanted: str) -> BadValue:
    return BadValue(path, f"{_kind(data)}, but it takes {wanted}")


def _read_integer(declaration: Any, data: Any, path: str) -> int:
    if type(data) is not int:
        raise _wrong(path, data, "an integer")
    return data


def _read_number(declaration: xdr.Number, data: Any, path: str) -> int | float:
    if declaration.format not in "fd":
        return _read_integer(declaration, data, path)
    if isinstance(data, str) and data in _NOT_FINITE:
        return _NOT_FINITE[data]
    if type(data) not in (int, float):
        raise _wrong(path, data, 'a number, "NaN", "Infinity" or "-Infinity"')
    try:
        return float(data)
    except OverflowError:
        raise BadValue(path, "too large a number") from None


def _read_bool(declaration: Any, data: Any, path: str) -> bool:
    if type(data) is not bool:
        raise _wrong(path, data, "true or false")
    return data


def _read_enum(declaration: xdr.Enumeration, data: Any, path: str) -> Any:
    if isinstance(data, str) and data in declaration.type.__members__:
        return declaration.type.__members__[data]
    if type(data) is int and data in declaration.members:
        return declaration.members[data]
    raise BadValue(path, f"takes one of {', '.join(declaration.type.__members__)}")


def _read_void(declaration: Any, data: Any, path: str) -> None:
    if data is not None:
        raise _wrong(path, data, "null")


def _read_text(declaration: Any, data: Any, path: str) -> str:
    if not isinstance(data, str):
        raise _wrong(path, data, "a string")
    return data


def _read_bytes(declaration: Any, data: Any, path: str) -> bytes:
    if isinstance(data, str):
        if _HEX.fullmatch(data):
            return bytes.fromhex(data)
        if getattr(declaration, "byte_count", 0) == _UUID_BYTES and _UUID.fullmatch(data):
            return bytes.fromhex(data.replace("-", ""))
        raise BadValue(path, "takes an even number of hexadecimal digits")
    if isinstance(data, dict) and list(data) == ["base64"] and isinstance(data["base64"], str):
        try:
            return base64.b64decode(data["base64"], validate=True)
        except ValueError:
            raise BadValue(path, "is not base64") from None
    raise _wrong(path, data, 'hexadecimal digits or {"base64": "..."}')


def _read_list(declaration: Any, data: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise _wrong(path, data, "a list")
    return tuple(_read(declaration.subcon, each, f"{path}[{index}]") for index, each in enumerate(data))


def _read_optional(declaration: composite.Optional, data: Any, path: str) -> Any:
    return None if data is None else _read(declaration.subcon, data, path)


def _read_union(declaration: Any, data: Any, path: str) -> Any:
    if not isinstance(data, dict):
        raise _wrong(path, data, '{"type": number, "value": ...}')
    for name in data:
        if name not in ("type", "value"):
            raise BadValue(_inside(path, name), "unknown; a union has type and value")
    if "type" not in data:
        raise BadValue(_inside(path, "type"), "is missing")
    number = _read_integer(declaration, data["type"], _inside(path, "type"))
    arm = declaration.arms.get(number, getattr(declaration, "default", None))
    if arm is None:
        arms = ", ".join(map(str, sorted(declaration.arms)))
        raise BadValue(_inside(path, "type"), f"there is no arm {number}; the arms are {arms}")
    value = _read(arm, data.get("value"), _inside(path, "value"))
    return value if getattr(declaration, "types", None) is not None else (number, value)


def _read_record(declaration: composite.Record, data: Any, path: str) -> Any:
    if not isinstance(data, dict):
        raise _wrong(path, data, "an object")
    fields = {field.name: unnamed(field) for field in declaration.subcons}
    for name in data:
        if name not in fields:
            known = ", ".join(fields) or "there are no fields"
            raise BadValue(_inside(path, name), f"unknown; the fields are {known}")
    defaults = _defaults(declaration.type)
    values = []
    for name, field in fields.items():
        if name in data:
            values.append(_read(field, data[name], _inside(path, name)))
        elif name in defaults:
            values.append(defaults[name])
        elif isinstance(field, (composite.Optional, xdr.Void)):
            values.append(None)
        else:
            raise BadValue(_inside(path, name), "is missing")
    return declaration.make(values)


def _defaults(python_type: Any) -> Mapping[str, Any]:
    """Defaults of a Struct class, by field."""
    values = getattr(getattr(python_type, "__new__", None), "__defaults__", None) or ()
    names = getattr(python_type, "__fields__", ())
    return dict(zip(names[len(names) - len(values) :], values, strict=True))


_READERS: dict[type, Callable[[Any, Any, str], Any]] = {
    xdr.Number: _read_number,
    xdr.SmallInt: _read_integer,
    xdr.Boolean: _read_bool,
    xdr.Enumeration: _read_enum,
    xdr.Void: _read_void,
    xdr.String: _read_text,
    xdr.Opaque: _read_bytes,
    xdr.FixedOpaque: _read_bytes,
    xdr.Chars: _read_bytes,
    xdr.FixedChars: _read_bytes,
    composite.Array: _read_list,
    composite.FixedArray: _read_list,
    composite.Optional: _read_optional,
    composite.Union: _read_union,
    OpenUnion: _read_union,
    composite.Record: _read_record,
}


# --- to JSON --------------------------------------------------------------------------


def _write(declaration: Any, value: Any) -> Any:
    declaration = unnamed(declaration)
    if isinstance(declaration, Later):
        declaration = unnamed(declaration.target)
    if isinstance(declaration, (composite.Array, composite.FixedArray)):
        return [_write(declaration.subcon, each) for each in value]
    if isinstance(declaration, composite.Optional):
        return None if value is None else _write(declaration.subcon, value)
    if isinstance(declaration, composite.Record):
        return {
            field.name: _write(field, each)
            for field, each in zip(declaration.subcons, declaration.split(value, ""), strict=True)
        }
    if isinstance(declaration, (composite.Union, OpenUnion)):
        number, value = declaration.split(value, "") if isinstance(declaration, composite.Union) else value
        return {
            "type": int(number),
            "value": _write(declaration.arms.get(number, _default(declaration)), value),
        }
    if isinstance(declaration, xdr.Enumeration):
        return value.name
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return next(name for name, each in _NOT_FINITE.items() if str(each) == str(value))
    return value


def _default(declaration: Any) -> Any:
    return getattr(declaration, "default", None)
