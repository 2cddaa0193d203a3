"""The words of a command by the rules of a POSIX shell, each character with its place in the text:
nothing is run, no variable and no file is looked up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from lab.pasted.body import Misplaced

LETTERS = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
LETTERS |= {"e": "\x1b", "E": "\x1b"}


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


def commands(text: str) -> Iterator[Command]:
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
