"""Where streamed Markdown may be cut: blocks that nothing later can change, and an open tail.

CommonMark reads line by line and never reopens a top-level block that it has closed. So once a
line is complete, every top-level block but the last is final. The last one stays open, for any next
line may go on with it: a list item, a table row, the code of a fence, a lazy line of a quote. A
last line that is not complete yet may still turn into something else, and closes nothing.

Contract: the closed blocks and the tail, joined, are the text; a closed block never changes; and
however a text is cut into pieces on its way here, it ends as the same blocks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

from potluck_tui.clean import clean

_FENCE = re.compile(r"(?:[ \t]*\n)*(?P<marks>`{3,}|~{3,})(?P<info>[^\n]*)\n")


@cache
def _parser() -> MarkdownIt:
    # Models write angle brackets as text, `<think>` for one; as HTML they would vanish.
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def parse(markdown: str) -> list[Token]:
    """Return the tokens of a Markdown text in the dialect of this program; their text is clean."""
    tokens = _parser().parse(markdown)
    for token in tokens:
        for child in token.children or ():
            # `&#x202e;`, or a part of an address, is a character of which the source has no trace.
            child.content = clean(child.content)
    return tokens


def too_deep(tokens: Sequence[Token]) -> bool:
    """Say whether lists and quotes lie so deep in each other that the parser left some out."""
    limit = _parser().options.maxNesting - 1
    return any(token.nesting == 1 and token.level >= limit for token in tokens)


@dataclass(frozen=True, slots=True)
class Fence:
    """The first line of a code block that is open."""

    language: str
    code_start: int
    """Where the code begins in the tail."""
    closing: re.Pattern[str]
    """The line that ends the block."""

    @classmethod
    def opened_by(cls, markdown: str) -> Fence | None:
        """Return the fence that a text begins with, if it does and the line is complete."""
        match = _FENCE.match(markdown)
        if match is None or (match["marks"][0] == "`" and "`" in match["info"]):
            return None
        info = match["info"].split()
        closing = re.compile(
            rf"^ {{0,3}}{match['marks']}{match['marks'][0]}*[ \t]*\n", re.MULTILINE
        )
        return cls(info[0] if info else "", match.end(), closing)


class MarkdownBlocks:
    """A Markdown text that grows at its end, as closed blocks and an open tail.

    A code block costs as much as what comes, however long it is; any other open block is read again
    with each line of it.

    The text must be clean (see `potluck_tui.clean`): a newline is the only line end in it.
    """

    def __init__(self) -> None:
        self.closed: list[str] = []
        """Source of each final block, with the blank lines that follow it."""
        self.tail = ""
        """Source that may still change its meaning."""
        self.fence: Fence | None = None
        """The code block that the tail is, while it is open."""
        self._searched = 0

    def append(self, text: str) -> None:
        """Add text at the end, and close what it completes."""
        self.tail += text
        if "\n" not in text:
            return
        if self.fence is None or self.fence.closing.search(self.tail, self._searched):
            lines = _lines(self.tail)
            starts = _block_starts("".join(lines[: self.tail.count("\n")]))
            self._close(lines, starts)
            self.fence = Fence.opened_by(self.tail)
            if self.fence and self.fence.closing.search(self.tail, self.fence.code_start):
                self.fence = None  # it is complete, and closed by whatever comes after it
        self._searched = self.tail.rfind("\n") + 1

    @property
    def open(self) -> list[str]:
        """Source of the blocks of the tail: the last closed one may not be known for it yet."""
        lines = _lines(self.tail)
        edges = [0, *_block_starts(self.tail)[1:], len(lines)]
        return ["".join(lines[start:stop]) for start, stop in pairwise(edges)]

    def finish(self) -> None:
        """Close everything: the text is complete."""
        lines = _lines(self.tail)
        self._close(lines, [*_block_starts(self.tail), len(lines)])
        self.fence = None

    def _close(self, lines: list[str], starts: list[int]) -> None:
        """Close the blocks before the last of `starts`, which are line numbers."""
        if len(starts) < 2:
            return
        # What stands before the first block, blank lines and link definitions, goes with it.
        edges = [0, *starts[1:]]
        self.closed += ["".join(lines[start:stop]) for start, stop in pairwise(edges)]
        self.tail = "".join(lines[edges[-1] :])


def _block_starts(markdown: str) -> list[int]:
    """Return the line at which each top-level block starts."""
    return [
        token.map[0]
        for token in parse(markdown)
        if token.level == 0 and token.nesting >= 0 and token.map is not None
    ]


def _lines(text: str) -> list[str]:
    """Split after each newline, and nowhere else."""
    parts = text.split("\n")
    lines = [part + "\n" for part in parts[:-1]]
    return [*lines, parts[-1]] if parts[-1] else lines
