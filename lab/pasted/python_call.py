"""A call of the anthropic package, read as the body that it sends: the code is parsed, not run."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from lab.model import LabError
from lab.pasted.body import Misplaced, Pasted

SDK_ONLY = ("extra_headers", "extra_query", "timeout", "betas", "metadata_headers")
NOTHING = ("NOT_GIVEN", "omit", "NotGiven", "Omit")


def from_python(text: str) -> Pasted:
    source = textwrap.dedent(text)
    tree = _parsed(source)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_call(node.func)]
    if not calls:
        raise LabError("This Python has no call of client.messages.create(…) or .stream(…).")
    call = min(calls, key=lambda node: node.lineno)
    values = Literals(source, tree)
    left_out = ["all but the first of its calls"] if len(calls) > 1 else []
    if call.args:
        raise values.refused(call.args[0], "it has no name: write messages=… before it")
    fields: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg in SDK_ONLY:
            left_out.append(keyword.arg)
            continue
        value = values.of(keyword.value)
        if keyword.arg in (None, "extra_body"):
            if not isinstance(value, Mapping):
                raise values.refused(keyword.value, "it is no dictionary")
            fields |= value
        elif value is not None:
            fields[keyword.arg] = value
    if re.search(r"(api_key|auth_token)\s*=\s*['\"]", text):
        left_out.append("the key")
    streams = call.func.attr == "stream" or bool(fields.pop("stream", False))
    return Pasted({"stream": streams, **fields}, "python", tuple(left_out))


def _parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        message, line, column = error.msg, error.lineno or 1, error.offset or 1
    except (ValueError, RecursionError, MemoryError):
        raise LabError("This Python cannot be read.") from None
    if message.startswith("expected an indented block"):  # a `with …:` without what it does
        last = source.rstrip().splitlines()[-1]
        indent = " " * (len(last) - len(last.lstrip()))
        for inner in (indent, _opening(source)):
            try:
                return ast.parse(f"{source.rstrip()}\n{inner}    pass\n")
            except SyntaxError:
                continue
    at = sum(len(part) + 1 for part in source.split("\n")[: line - 1]) + column - 1
    raise Misplaced(f"this is no Python ({message})", source, at)


def _opening(source: str) -> str:
    """The indentation of the last line that opens a `with`."""
    found = re.findall(r"(?m)^([ \t]*)(?:async )?with ", source)
    return found[-1] if found else ""


def _is_call(function: ast.expr) -> bool:
    """Whether it is `….messages.create` or `….messages.stream`, the raw ones too."""
    if not (isinstance(function, ast.Attribute) and function.attr in ("create", "stream")):
        return False
    inner = function.value
    while isinstance(inner, ast.Attribute):
        if inner.attr == "messages":
            return True
        inner = inner.value
    return isinstance(inner, ast.Name) and inner.id == "messages"


class Literals:
    """Values that stand in the code as they are, or under a name that is given one such value
    once."""

    def __init__(self, source: str, tree: ast.Module) -> None:
        self.source = source
        self.names: dict[str, ast.expr] = {}
        self.open: set[str] = set()
        bound: list[str] = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                bound.append(node.id)
            elif isinstance(node, ast.arg):
                bound.append(node.arg)
            elif isinstance(node, ast.alias):
                bound.append((node.asname or node.name).partition(".")[0])
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if len(targets) == 1 and isinstance(targets[0], ast.Name):
                    self.names[targets[0].id] = node.value
        self.names = {name: node for name, node in self.names.items() if bound.count(name) == 1}

    def refused(self, node: ast.AST, why: str) -> Misplaced:
        lines = self.source.split("\n")[: node.lineno - 1]
        line = self.source.split("\n")[node.lineno - 1].encode()
        column = len(line[: node.col_offset].decode(errors="replace"))
        at = sum(len(part) + 1 for part in lines) + column
        written = ast.get_source_segment(self.source, node) or "this"
        shown = " ".join(written.split())
        shown = shown if len(shown) <= 40 else f"{shown[:39]}…"
        return Misplaced(f"{shown} cannot be taken over, because {why}", self.source, at)

    def of(self, node: ast.expr) -> Any:
        """Its value; Misplaced where it would have to be computed."""
        match node:
            case ast.Constant(value=str() | int() | float() | None as value):
                return value
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                return [self.of(part) for part in parts]
            case ast.Dict(keys=keys, values=parts):
                return self._dictionary(keys, parts)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._sum(node, self.of(left), self.of(right))
            case ast.JoinedStr(values=parts):
                return "".join(self._piece(part) for part in parts)
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
                keys = [ast.Constant(word.arg) if word.arg else None for word in keywords]
                return self._dictionary(keys, [word.value for word in keywords])
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in NOTHING:
                return None
            case ast.Name(id=name) if name in self.names and name not in self.open:
                self.open.add(name)
                value = self.of(self.names[name])
                self.open.discard(name)
                return value
        raise self.refused(node, "its value is not written out: put the value itself in its place")

    def _dictionary(self, keys: list[ast.expr | None], parts: list[ast.expr]) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key, part in zip(keys, parts, strict=True):
            inner = self.of(part)
            if key is not None:
                value[str(self.of(key))] = inner
            elif isinstance(inner, Mapping):
                value |= inner
            else:
                raise self.refused(part, "it is no dictionary")
        return value

    def _sum(self, node: ast.expr, left: Any, right: Any) -> Any:
        if type(left) is type(right) and isinstance(left, str | list):
            return left + right
        raise self.refused(node, "its parts do not add up to a text or a list")

    def _piece(self, part: ast.expr) -> str:
        inner = part.value if isinstance(part, ast.FormattedValue) else part
        value = self.of(inner)
        plain = not isinstance(part, ast.FormattedValue) or (
            part.format_spec is None and part.conversion == -1
        )
        if plain and isinstance(value, str | int):
            return str(value)
        raise self.refused(inner, "it is formatted: write out the text")
