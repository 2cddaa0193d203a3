"""A request as people have it at hand, read as a Messages body: a curl command, a call of the
anthropic package, or JSON. Nothing of it is run, no file of it is opened, and no key of it is kept.
"""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from lab.model import LabError
from lab.scenarios import definitions

FORMS = "a curl command, a Python call or a JSON body"
API = "api.anthropic.com"
EXCERPT = 72
KEYS = ("x-api-key", "api-key", "authorization", "proxy-authorization", "cookie")
USUAL = ("content-type", "accept", "accept-encoding", "anthropic-version", "user-agent", "expect")
WRITTEN_KEYS = (
    rf"(?i)((?:-H|--header)[ =]*[$'\"]*(?:{'|'.join(KEYS)})\s*:\s*)([^'\"\s]+(?: +[^'\"\s\\]+)?)",
    r"((?:\s-u|--user|--proxy-user)[ =]*['\"]?)([^'\"\s]+)",
    r"((?:api_key|auth_token)\s*=\s*['\"])([^'\"]+)",
    r"()(\bsk-[A-Za-z0-9_-]{8,})",
)
DROPPED = "…"
JSON_WORDS = {
    "Expecting ',' delimiter": "a comma or a closing bracket is missing here",
    "Expecting ':' delimiter": "a colon is missing here",
    "Expecting value": "a value is missing here",
    "Expecting property name enclosed in double quotes": (
        "a field's name in double quotes is missing here"
    ),
    "Illegal trailing comma before end of object": "this comma has nothing after it",
    "Illegal trailing comma before end of array": "this comma has nothing after it",
    "Unterminated string starting at": "the text that begins here has no closing quote",
    "Invalid control character at": r"a line break in a text is written \n",
    "Invalid \\escape": "this backslash escapes nothing",
    "Invalid \\uXXXX escape": r"\u needs four hexadecimal digits",
    "Extra data": "the JSON has ended before this",
}


class Misplaced(LabError):
    """A mistake with its place in the text: `line` and `column` count from 1, `excerpt` is that
    line with a caret under the place."""

    def __init__(self, words: str, text: str, at: int) -> None:
        at = min(max(at, 0), len(text))
        begin = text.rfind("\n", 0, at) + 1
        self.line, self.column = text.count("\n", 0, at) + 1, at - begin + 1
        shown = text[begin:].partition("\n")[0].rstrip("\r").replace("\t", " ")
        first = max(0, self.column - 1 - EXCERPT * 2 // 3)
        lead = "…" if first else ""
        rest = "…" if len(shown) > first + EXCERPT else ""
        caret = " " * (len(lead) + self.column - 1 - first) + "^"
        self.excerpt = f"{lead}{shown[first : first + EXCERPT]}{rest}\n{caret}"
        super().__init__(f"line {self.line}, column {self.column}: {words}.")


@dataclass(frozen=True)
class Pasted:
    body: dict[str, Any]
    form: Literal["json", "curl", "python"]
    left_out: tuple[str, ...] = ()
    """What the text had and the body has not, in words; never a value."""


def read(text: str) -> Pasted:
    """The body in a text; Misplaced, or another LabError, in words where there is none.

    What streams says so in the body, by `stream`: a command and a call do not unless they ask.
    """
    text = text.replace("\r\n", "\n")
    if text.lstrip("\ufeff \t\n").startswith(("{", "[")):
        return Pasted(_object(text, text, range(len(text) + 1)), "json")
    if command := _curl_of(text):
        pasted = _from_curl(text, command)
    elif re.search(r"messages[\w.]*\.(create|stream)\b", text):
        pasted = _from_python(text)
    elif re.match(r"\s*curl\b", text):
        raise LabError("This curl command cannot be read: paste the whole of it.")
    else:
        raise LabError(f"This is neither {FORMS.replace(' or ', ' nor ')}.")
    if not isinstance(pasted.body.get("messages"), list):
        raise LabError("This is no request to the Messages API: its body has no list of messages.")
    definitions.check_characters(pasted.body)
    return pasted


def without_keys(text: str) -> str:
    """The text with an ellipsis in place of every key in it: what may stand on a page."""
    for pattern in WRITTEN_KEYS:
        text = re.sub(pattern, rf"\1{DROPPED}", text)
    return text


def _object(json_text: str, text: str, places: Any) -> dict[str, Any]:
    """The JSON object; `places[n]` is where its character n stands in `text`."""
    try:
        value = json.loads(json_text)
    except json.JSONDecodeError as error:
        words = JSON_WORDS.get(error.msg, error.msg)
        raise Misplaced(words, text, places[min(error.pos, len(json_text))]) from None
    except RecursionError:
        raise LabError(f"This JSON is {definitions.TOO_DEEP}.") from None
    try:
        definitions.read_json(json_text)
    except ValueError as error:
        raise LabError(f"This is {error}.") from None
    if not isinstance(value, dict):
        raise Misplaced("a body is one JSON object, in braces", text, places[0])
    return value


# A curl command, by the rules of a POSIX shell


class Word(NamedTuple):
    text: str
    places: list[int]
    """Where each character stands in what was pasted, and where the word ends."""


@dataclass
class Command:
    words: list[Word]
    stdin: Word | None = None
    before: Command | None = None
    """What is piped into it."""


LETTERS = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
LETTERS |= {"e": "\x1b", "E": "\x1b"}
WITH_VALUE = "AbcCdDeEFHKmoPQrtTuUwxXyYz"
LONG_WITH_VALUE = {
    *("request", "url", "output", "max-time", "connect-timeout", "retry", "retry-delay", "proxy"),
    *("user-agent", "referer", "cookie-jar", "cacert", "cert", "key", "resolve", "write-out"),
    *("dump-header", "config", "range", "upload-file", "limit-rate", "retry-max-time", "ciphers"),
}
DATA = ("d", "data", "data-raw", "data-binary", "data-ascii", "json")
HEADER, USER, COOKIE = ("H", "header"), ("u", "user", "U", "proxy-user"), ("b", "cookie")
FORM = ("F", "form", "form-string", "data-urlencode", "url-query")


def _curl_of(text: str) -> Command | None:
    if not re.search(r"(?m)(^|[\s|;&(/])curl(\.exe)?\s", text):
        return None
    for command in _commands(text):
        names = [word.text for word in command.words]
        while names and (names[0] in ("$", "%", "sudo", "time") or re.match(r"\w+=", names[0])):
            names.pop(0)
        if names and re.search(r"(^|/)curl(\.exe)?$", names[0]):
            command.words = command.words[len(command.words) - len(names) + 1 :]
            return command
    return None


def _from_curl(text: str, command: Command) -> Pasted:
    parts: list[Word] = []
    left_out: list[str] = []
    address = ""
    for name, word in _options(command.words):
        if name in DATA:
            parts.append(_data(name, word, command))
        elif name in HEADER:
            header = word.text.partition(":")[0].strip().lower()
            if header in KEYS:
                left_out.append(f"the key in {header}")
            elif header not in USUAL:
                left_out.append(f"the header {header}")
        elif name in USER:
            left_out.append("the key in --user")
        elif name in COOKIE:
            left_out.append("the cookie")
        elif name in FORM:
            raise LabError(f"This curl sends a form ({'-' * min(len(name), 2)}{name}), not JSON.")
        elif name in ("", "url"):
            address = address or word.text
    if not parts:
        raise LabError("This curl sends no body: it has neither -d nor --data.")
    host = re.match(r"(?:\w+://)?(?:[^/@\s]*@)?([^/:?\s]+)", address)
    if host and host[1] != API:
        left_out.append(f"the address ({host[1]})")
    joined = Word("", [])
    for part in parts:
        between = Word("&", part.places[:1]) if joined.text else Word("", [])
        joined = Word(
            joined.text + between.text + part.text,
            joined.places[: len(joined.text)] + between.places + part.places,
        )
    body = {"stream": False, **_object(joined.text, text, joined.places)}
    return Pasted(body, "curl", tuple(dict.fromkeys(left_out)))


def _data(name: str, word: Word, command: Command) -> Word:
    if name == "data-raw" or not word.text.startswith("@"):
        return word
    if word.text != "@-":
        raise LabError(
            f"This curl takes its body from the file {word.text[1:]!r:.80}, which is not opened "
            "here: paste what is in it."
        )
    source = command.stdin
    if source is None and command.before:
        source = command.before.stdin
        named = command.before.words
        if source is None and len(named) > 1 and named[0].text in ("echo", "printf"):
            source = named[-1]
    if source is None:
        raise LabError("This curl reads its body from what is piped into it: paste that.")
    return source


def _options(words: list[Word]) -> Iterator[tuple[str, Word]]:
    """Each option with its value, and each operand with an empty name."""
    rest = iter(words)
    nothing = Word("", [0])
    for word in rest:
        if word.text.startswith("--"):
            name, equals, _ = word.text[2:].partition("=")
            taken = {*DATA, *HEADER, *USER, *COOKIE, *FORM, *LONG_WITH_VALUE}
            if equals:
                start = len(name) + 3
                yield name, Word(word.text[start:], word.places[start:])
            else:
                yield name, next(rest, nothing) if name in taken else nothing
        elif word.text.startswith("-") and len(word.text) > 1:
            for at, letter in enumerate(word.text[1:], 1):
                if letter in WITH_VALUE:
                    own = Word(word.text[at + 1 :], word.places[at + 1 :])
                    yield letter, own if own.text else next(rest, nothing)
                    break
        else:
            yield "", word


def _commands(text: str) -> Iterator[Command]:
    """The simple commands of a script, with their words and what stands before a pipe."""
    at, command = 0, Command([])
    waiting: list[tuple[Command, str, bool]] = []
    while at <= len(text):
        char = text[at] if at < len(text) else "\n"
        if char == "\n":
            at += 1
            for owner, end, indented in waiting:
                owner.stdin, at = _here_document(text, at, end, indented)
            waiting = []
            if command.words:
                yield command
            command = Command([])
        elif char in " \t":
            at += 1
        elif continued := re.compile(r"[\\^`][ \t]*\n").match(text, at):
            at = continued.end()
        elif char == "#":
            at = text.find("\n", at) if "\n" in text[at:] else len(text)
        elif char == "|":
            at += 2 if text[at : at + 2] == "||" else 1
            yield command
            command = Command([], before=command)
        elif char in ";&()":
            at += 1
            if command.words:
                yield command
            command = Command([])
        elif here := re.compile(r"<<(<|-?)[ \t]*").match(text, at):
            word, at = _word(text, here.end())
            if here[1] == "<":
                command.stdin = word
            else:
                waiting.append((command, word.text, here[1] == "-"))
        elif redirection := re.compile(r"\d?[<>]+&?[ \t]*").match(text, at):
            _, at = _word(text, redirection.end())
        else:
            word, at = _word(text, at)
            command.words.append(word)


def _here_document(text: str, at: int, end: str, indented: bool) -> tuple[Word, int]:
    begin = at
    while at < len(text):
        stop = text.find("\n", at) if "\n" in text[at:] else len(text)
        line = text[at:stop]
        if (line.lstrip("\t") if indented else line).rstrip() == end:
            return Word(text[begin:at], list(range(begin, at + 1))), stop
        at = stop + 1
    raise Misplaced(f"what begins here is never ended by a line {end}", text, begin)


def _word(text: str, at: int) -> tuple[Word, int]:
    """One word from here on, its quotes and escapes resolved, and where it ends."""
    characters: list[str] = []
    places: list[int] = []

    def add(value: str, place: int) -> None:
        characters.append(value)
        places.extend([place] * len(value))

    while at < len(text) and text[at] not in " \t\n|;&<>()":
        char, begin = text[at], at
        if char == "'" or text.startswith("$'", at):
            ansi = char == "$"
            at += 1 + ansi
            while True:
                if at >= len(text):
                    raise Misplaced("this quote is never closed", text, begin)
                if text[at] == "'":
                    break
                if ansi and text[at] == "\\" and at + 1 < len(text):
                    value, length = _escape(text, at + 1)
                    add(value, at)
                    at += 1 + length
                else:
                    add(text[at], at)
                    at += 1
            at += 1
        elif char == '"':
            at += 1
            while True:
                if at >= len(text):
                    raise Misplaced("this quote is never closed", text, begin)
                if text[at] == '"':
                    break
                if text[at] == "\\" and text[at + 1 : at + 2] in ('"', "\\", "$", "`", "\n"):
                    if text[at + 1] != "\n":
                        add(text[at + 1], at)
                    at += 2
                else:
                    add(text[at], at)
                    at += 1
            at += 1
        elif char == "\\" and at + 1 < len(text):
            if text[at + 1] != "\n":
                add(text[at + 1], at)
            at += 2
        else:
            add(char, at)
            at += 1
    return Word("".join(characters), [*places, at]), at


def _escape(text: str, at: int) -> tuple[str, int]:
    """What a backslash before `at` means in $'…', and how many characters say it."""
    if code := re.compile(r"u([0-9a-fA-F]{1,4})|U([0-9a-fA-F]{1,8})|x([0-9a-fA-F]{1,2})").match(
        text, at
    ):
        number = int(code[1] or code[2] or code[3], 16)
        return chr(number) if number <= 0x10FFFF else "\ufffd", len(code[0])
    if code := re.compile(r"[0-7]{1,3}").match(text, at):
        return chr(int(code[0], 8)), len(code[0])
    return LETTERS.get(text[at], text[at]), 1


# A call of the anthropic package

SDK_ONLY = ("extra_headers", "extra_query", "timeout", "betas", "metadata_headers")
NOTHING = ("NOT_GIVEN", "omit", "NotGiven", "Omit")


def _from_python(text: str) -> Pasted:
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


# What to compare a body with


def streamed(body: Mapping[str, Any]) -> dict[str, Any]:
    return {**body, "stream": True}


def smaller(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    return {**body, "model": model}


def cached(body: Mapping[str, Any]) -> dict[str, Any]:
    """With a mark where what repeats from request to request ends: after the system text, else the
    tools, else all turns but the last; sent once beforehand (`primed`), so that it is read."""
    body = json.loads(json.dumps(body))
    mark = {"cache_control": {"type": "ephemeral"}}
    system, tools, turns = (body.get(name) for name in ("system", "tools", "messages"))
    if isinstance(system, str) and system:
        body["system"] = [{"type": "text", "text": system, **mark}]
    elif isinstance(system, list) and system:
        system[-1] |= mark
    elif isinstance(tools, list) and tools:
        tools[-1] |= mark
    elif isinstance(turns, list) and turns:
        turn = turns[-2] if len(turns) > 1 else turns[-1]
        content = turn.get("content")
        if isinstance(content, str):
            turn["content"] = [{"type": "text", "text": content, **mark}]
        elif content:
            content[-1 if len(turns) > 1 else max(-2, -len(content))] |= mark
    return {**body, "primed": True}


STREAMED, CACHED, SMALLER = "itself streamed", "itself cached", "smaller model"
PROPOSALS: dict[str, Callable[..., dict[str, Any]]] = {
    STREAMED: streamed,
    CACHED: cached,
    SMALLER: smaller,
}
