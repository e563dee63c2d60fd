"""Checks grammars in GBNF before llama.cpp sees them.

On some grammars llama.cpp (0.3.36 of its Python package) does not return an error: it overflows its
stack on deep parentheses, takes all memory for `{3,1}` and for left recursion behind a rule that
may be empty, and works for ever where each rule begins with two uses of the next. Those are refused
here. What is merely no GBNF is left to llama.cpp, which says so safely.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from potluck_proto.errors import BadRequest

LIMIT_CHARACTERS = 2**18
"""The longest grammar."""

LIMIT_DEPTH = 500
"""The deepest parentheses."""

LIMIT_REPETITIONS = 2000
"""The largest number in `{m,n}`; llama.cpp's own limit."""

LIMIT_ELEMENTS = 1_000_000
"""Characters and references after repetitions are written out, 8 bytes each."""

LIMIT_BEGINNINGS = 2_000
"""Ways in which one rule may begin: llama.cpp follows them all at once, and checks each token of
the vocabulary against each."""

_TOKEN = re.compile(
    r"""
    (?P<space>(?:\s|\#[^\r\n]*)+)
  | (?P<rule>[A-Za-z0-9-]+[ \t]*::=)
  | (?P<name>[A-Za-z0-9-]+)
  | (?P<literal>"(?:[^"\\]|\\.)*")
  | (?P<range>\[(?:[^\]\\]|\\.)*\])
  | (?P<token>!?<[^>]*>)
  | (?P<any>\.)
  | (?P<or>\|)
  | (?P<open>\()
  | (?P<close>\))
  | (?P<repeat>[*+?]|\{\s*\d{1,9}\s*(?:,\s*(?:\d{1,9}\s*)?)?\})
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(slots=True)
class _Symbol:
    """A reference to a rule, or for `None` characters or a token."""

    rule: str | None
    size: int
    """Elements that it is in llama.cpp."""


@dataclass(slots=True)
class _Body:
    """The right side of a rule, as far as it is read."""

    name: str
    alternatives: list[list[_Symbol]] = field(default_factory=lambda: [[]])
    last: int = 0
    """Where in the newest alternative the item begins that a repetition would repeat."""


class _Parser:
    """Reads a grammar into rules, repetitions and parentheses made rules of their own."""

    def __init__(self, text: str) -> None:
        self.rules: dict[str, list[list[_Symbol]]] = {}
        self.names_tokens = False
        self._text = text
        self._elements = 0
        self._nested: list[_Body] = []

    def parse(self) -> None:
        """Fill `rules`. Raises `BadRequest`."""
        for kind, text, at in self._tokens():
            if kind == "rule":
                self._close_rule(at)
                self._nested = [_Body(text.removesuffix("::=").strip())]
            elif not self._nested:
                raise self._error(at, f"expected a rule, name ::= ..., and found {text[:20]!r}")
            else:
                self._item(kind, text, at)
        self._close_rule(len(self._text))

    def _item(self, kind: str, text: str, at: int) -> None:
        """Take in one item of a rule's right side."""
        body = self._nested[-1]
        match kind:
            case "or":
                body.alternatives.append([])
                body.last = 0
            case "open":
                if len(self._nested) > LIMIT_DEPTH:
                    raise self._error(at, f"parentheses are more than {LIMIT_DEPTH} deep")
                self._nested.append(_Body(f"{body.name}({at}"))
            case "close":
                if len(self._nested) == 1:
                    raise self._error(at, "a parenthesis closes that was not opened")
                self.rules[body.name] = body.alternatives
                self._nested.pop()
                self._append(_Symbol(body.name, 1), at)
            case "repeat":
                self._repeat(text, at)
            case "name":
                self._append(_Symbol(text, 1), at)
            case _:
                self.names_tokens |= kind == "token"
                size = len(text) - 2 if kind in ("literal", "range") else 1
                self._append(_Symbol(None, size), at)

    def _tokens(self) -> Iterator[tuple[str, str, int]]:
        at = 0
        while at < len(self._text):
            match = _TOKEN.match(self._text, at)
            if match is None:
                raise self._error(at, f"cannot read {self._text[at : at + 20]!r}")
            if match.lastgroup != "space":
                yield str(match.lastgroup), match[0], at
            at = match.end()

    def _append(self, symbol: _Symbol, at: int) -> None:
        body = self._nested[-1]
        newest = body.alternatives[-1]
        body.last = len(newest)
        if symbol.size:
            self._count(symbol.size, at)
            newest.append(symbol)

    def _repeat(self, text: str, at: int) -> None:
        """Write a repetition out, as far as it matters for how rules begin."""
        body = self._nested[-1]
        newest = body.alternatives[-1]
        repeated = newest[body.last :]
        if not repeated:
            raise self._error(at, f"{text} has nothing before it to repeat")
        least, most = _bounds(text)
        if most is not None and most < least:
            raise self._error(at, f"{text} repeats at least {least} and at most {most} times")
        if max(least, most or 0) > LIMIT_REPETITIONS:
            raise self._error(at, f"{text} repeats more than {LIMIT_REPETITIONS:,} times")
        self._count(sum(symbol.size for symbol in repeated) * max(least, most or 1), at)
        more = []
        if most is None:
            more = [_Symbol(f"{body.name}{{{at}", 1)]
            self.rules[f"{body.name}{{{at}"] = [[*repeated, *more], []]
        # Of a bounded run the first turns, of which one has another behind it, show all.
        for turn in range(min(2, most - least) if most is not None else 0):
            self.rules[f"{body.name}{{{at}{{{turn}"] = [[*repeated, *more], []]
            more = [_Symbol(f"{body.name}{{{at}{{{turn}", 1)]
        newest[body.last :] = [*repeated * min(least, 2), *more]

    def _count(self, elements: int, at: int) -> None:
        self._elements += elements
        if self._elements > LIMIT_ELEMENTS:
            raise self._error(at, "the grammar is too large with its repetitions written out")

    def _close_rule(self, at: int) -> None:
        if len(self._nested) > 1:
            raise self._error(at, "a parenthesis is not closed")
        for body in self._nested:
            self.rules[body.name] = body.alternatives

    def _error(self, at: int, reason: str) -> BadRequest:
        line = self._text.count("\n", 0, at) + 1
        return BadRequest(f"The grammar does not work, in line {line}: {reason}.")


def _bounds(text: str) -> tuple[int, int | None]:
    """Return how often a repetition repeats, at least and at most; `None` is without end."""
    if text in ("*", "+", "?"):
        return (1, None) if text == "+" else (0, 1 if text == "?" else None)
    least, comma, most = text.strip("{}").partition(",")
    if not comma:
        return int(least), int(least)
    return int(least), int(most) if most.strip() else None


def check(text: str) -> bool:
    """Return whether a grammar names tokens, as in `<[5]>`.

    Raises:
        BadRequest: llama.cpp would not survive it, or it lacks a rule.
    """
    if len(text) > LIMIT_CHARACTERS:
        raise BadRequest(
            f"The grammar is {len(text):,} characters long; at most {LIMIT_CHARACTERS:,} work."
        )
    if "\0" in text:
        raise BadRequest("The grammar has a character of code 0; write it as \\x00.")
    parser = _Parser(text)
    parser.parse()
    rules = parser.rules
    if "root" not in rules:
        raise BadRequest("The grammar has no rule named root, with which an answer begins.")
    for alternatives in rules.values():
        for symbol in (symbol for alternative in alternatives for symbol in alternative):
            if symbol.rule is not None and symbol.rule not in rules:
                raise BadRequest(f"The grammar uses the rule {symbol.rule} and does not define it.")
    _check_beginnings(rules)
    return parser.names_tokens


def excluding(characters: str, text: str) -> str:
    """Return a grammar whose negated ranges, such as `[^a]`, exclude further characters.

    Args:
        characters: As they stand in a range.
        text: The grammar.
    """

    def extended(match: re.Match[str]) -> str:
        negated = match.lastgroup == "range" and match[0].startswith("[^")
        return f"[^{characters}{match[0][2:]}" if negated else match[0]

    return _TOKEN.sub(extended, text)


def _check_beginnings(rules: dict[str, list[list[_Symbol]]]) -> None:
    """Raise `BadRequest` where following how rules begin would not end, or not soon."""
    begins = _begins(rules)
    beginnings: dict[str, int] = {}
    for group in _cycles({name: [rule for rule, _ in edges] for name, edges in begins.items()}):
        members = set(group)
        ways = 0
        for name in group:
            ways += len(rules[name])
            for rule, more_follows in begins[name]:
                if rule not in members:
                    ways += beginnings[rule]
                elif more_follows:
                    # Each turn would put what follows on the stack again.
                    raise BadRequest(
                        f"The grammar's rule {_written(name)} begins with itself (left recursion), "
                        "which llama.cpp cannot follow. Write it as a repetition, such as "
                        "item (separator item)*."
                    )
        if ways > LIMIT_BEGINNINGS:
            raise BadRequest(
                f"The grammar's rule {_written(group[0])} can begin in more than "
                f"{LIMIT_BEGINNINGS:,} ways; llama.cpp follows them all at once."
            )
        beginnings |= dict.fromkeys(group, ways)


def _begins(rules: dict[str, list[list[_Symbol]]]) -> dict[str, list[tuple[str, bool]]]:
    """Return the rules with which each may begin, and whether more follows them there."""
    nullable = _nullable(rules)
    begins: dict[str, list[tuple[str, bool]]] = {name: [] for name in rules}
    for name, alternatives in rules.items():
        for alternative in alternatives:
            for at, symbol in enumerate(alternative):
                if symbol.rule is None:
                    break
                begins[name].append((symbol.rule, at < len(alternative) - 1))
                if symbol.rule not in nullable:
                    break
    return begins


def _written(name: str) -> str:
    """Return the rule of the text that one of the parser's is a part of."""
    return name.partition("(")[0].partition("{")[0]


def _nullable(rules: dict[str, list[list[_Symbol]]]) -> set[str]:
    """Return the rules that may be empty."""
    users: dict[str, set[str]] = {}
    for name, alternatives in rules.items():
        for symbol in (symbol for alternative in alternatives for symbol in alternative):
            if symbol.rule is not None:
                users.setdefault(symbol.rule, set()).add(name)
    found: set[str] = set()
    waiting = list(rules)
    while waiting:
        name = waiting.pop()
        if name not in found and any(
            all(symbol.rule in found for symbol in alternative) for alternative in rules[name]
        ):
            found.add(name)
            waiting += users.get(name, ())
    return found


def _cycles(edges: dict[str, list[str]]) -> Iterator[list[str]]:
    """Yield the groups of rules that lead to each other, those that a group leads to before it.

    Tarjan's algorithm, without recursion.
    """
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    on_path: set[str] = set()
    for start in edges:
        if start in numbers:
            continue
        work = [(start, iter(edges[start]))]
        while work:
            name, rest = work[-1]
            if name not in numbers:
                numbers[name] = lowest[name] = len(numbers)
                path.append(name)
                on_path.add(name)
            for following in rest:
                if following not in numbers:
                    work.append((following, iter(edges[following])))
                    break
                if following in on_path:
                    lowest[name] = min(lowest[name], numbers[following])
            else:
                work.pop()
                if work:
                    parent = work[-1][0]
                    lowest[parent] = min(lowest[parent], lowest[name])
                if lowest[name] == numbers[name]:
                    group = [path.pop()]
                    while group[-1] != name:
                        group.append(path.pop())
                    on_path.difference_update(group)
                    yield group
