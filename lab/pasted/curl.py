"""A curl command, read as the body that it sends; its keys and files are left out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lab.model import LabError
from lab.pasted.body import Pasted, json_object
from lab.pasted.shell import Command, Word, commands

API = "api.anthropic.com"
KEYS = ("x-api-key", "api-key", "authorization", "proxy-authorization", "cookie")
USUAL = ("content-type", "accept", "accept-encoding", "anthropic-version", "user-agent", "expect")
WITH_VALUE = "AbcCdDeEFHKmoPQrtTuUwxXyYz"
LONG_WITH_VALUE = {
    *("request", "url", "output", "max-time", "connect-timeout", "retry", "retry-delay", "proxy"),
    *("user-agent", "referer", "cookie-jar", "cacert", "cert", "key", "resolve", "write-out"),
    *("dump-header", "config", "range", "upload-file", "limit-rate", "retry-max-time", "ciphers"),
}
DATA = ("d", "data", "data-raw", "data-binary", "data-ascii", "json")
HEADER, USER, COOKIE = ("H", "header"), ("u", "user", "U", "proxy-user"), ("b", "cookie")
FORM = ("F", "form", "form-string", "data-urlencode", "url-query")


def command_of(text: str) -> Command | None:
    if not re.search(r"(?m)(^|[\s|;&(/])curl(\.exe)?\s", text):
        return None
    for command in commands(text):
        names = [word.text for word in command.words]
        while names and (names[0] in ("$", "%", "sudo", "time") or re.match(r"\w+=", names[0])):
            names.pop(0)
        if names and re.search(r"(^|/)curl(\.exe)?$", names[0]):
            command.words = command.words[len(command.words) - len(names) + 1 :]
            return command
    return None


def from_curl(text: str, command: Command) -> Pasted:
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
    body = {"stream": False, **json_object(joined.text, text, joined.places)}
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
