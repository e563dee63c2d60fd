"""Markdown as lines of the screen: what a block of an answer looks like at a width."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import ClassVar

from markdown_it.token import Token
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement, TableElement
from rich.padding import Padding
from rich.segment import Segment
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text
from rich.theme import Theme
from textual.strip import Strip

from potluck_tui.markdown_blocks import parse, too_deep

CODE_THEME = "ansi_dark"
"""Sixteen colours: they follow the terminal's own palette, and their escape sequences are short."""

CODE_INDENT = 2
CODE_GOES_ON = "↪ "
"""Before what a line of code had no room for."""

_SAID = ("text", "code_inline", "fence", "code_block")
"""The kinds of tokens whose text is shown as it is."""

_THEME = Theme(
    {
        "markdown.code": "cyan",
        "markdown.h1": "bold",
        "markdown.h2": "bold",
        "markdown.h3": "bold",
        "markdown.h4": "bold dim",
        "markdown.h5": "bold dim",
        "markdown.h6": "bold dim",
        "markdown.block_quote": "italic dim",
        "markdown.item.bullet": "bold cyan",
        "markdown.item.number": "bold cyan",
        "markdown.hr": "dim",
        "markdown.link": "bold",
        "markdown.link_url": "cyan underline",
        "markdown.table.header": "bold",
        "markdown.table.border": "dim",
    }
)


class _LeftHeading(Heading):
    """A heading at the left margin, whatever its level."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the heading's text."""
        yield self.text


class _PlainCode(CodeBlock):
    """Code without a background of its own: fewer bytes to send, and clean to select."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the code, highlighted and set in by two columns."""
        yield _highlighted(str(self.text).rstrip(), self.lexer_name, options.max_width)


class _FoldedTable(TableElement):
    """A table that has long words go on in the next line, instead of an ellipsis for the rest."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table."""
        for table in super().__rich_console__(console, options):
            assert isinstance(table, Table)
            for column in table.columns:
                column.overflow = "fold"
            yield table


class _AnswerMarkdown(Markdown):
    """Rich's Markdown over tokens of our own parser."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "heading_open": _LeftHeading,
        "fence": _PlainCode,
        "code_block": _PlainCode,
        "table_open": _FoldedTable,
    }

    def __init__(self, tokens: list[Token]) -> None:
        # A link shows its address: what a model wrote must not hide where it leads.
        super().__init__("", hyperlinks=False)
        self.parsed = tokens


_CONSOLE = Console(
    file=StringIO(),
    color_system="truecolor",
    force_terminal=True,
    legacy_windows=False,
    theme=_THEME,
    _environ={},
)


def markdown_lines(markdown: str, width: int) -> list[Strip]:
    """Return the lines of Markdown at a width, without blank lines at either end.

    Args:
        markdown: Clean text: nothing in it may act on a terminal.
        width: Columns, at least 1.
    """
    tokens = parse(markdown)
    if too_deep(tokens):
        return _as_written(markdown, width)
    for token in tokens:
        # A model that breaks a line means it: poems, addresses, lists without bullets.
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"
    try:
        lines = lines_of(_AnswerMarkdown(tokens), width)
        whole = sum(_count(line.text) for line in lines) >= _letters(tokens)
    except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, ValueError):
        # Rich asserts a shape of the tokens; models write what they like.
        whole = False
    return _without_blank_ends(lines) if whole else _as_written(markdown, width)


def _as_written(markdown: str, width: int) -> list[Strip]:
    """Return the lines of Markdown that has no room as what it means, since all of it must show.

    That is a table of more columns than the screen has, a list in a list in a list.
    """
    indent = width // 2
    text = re.sub(rf"^( {{{indent}}}) +", r"\1", markdown, flags=re.MULTILINE)
    return _without_blank_ends(lines_of(Text(text), width))


def _letters(tokens: Sequence[Token]) -> int:
    """Return how many letters and digits a text says, without those of addresses."""
    leaves = (leaf for token in tokens for leaf in token.children or (token,))
    return sum(_count(leaf.content) for leaf in leaves if leaf.type in _SAID)


def _count(text: str) -> int:
    return sum(map(str.isalnum, text))


def prepare() -> None:
    """Import what the first code block would wait for, some 40 ms; may run in any thread."""
    Syntax("", "python", theme=CODE_THEME).highlight("x = 1\n")


def code_lines(code: str, language: str, width: int) -> list[Strip]:
    """Return the lines of code at a width: those that a code block of it has."""
    return lines_of(_highlighted(code, language or "text", width), width)


def _highlighted(code: str, language: str, width: int) -> Padding:
    """Return code, highlighted and set in by two columns.

    What a line has no room for goes on in the next one, behind a mark.
    """
    text = Syntax("", language, theme=CODE_THEME).highlight(code + "\n")
    text.right_crop(1)
    room = max(1, width - CODE_INDENT)
    if any(cell_len(line.expandtabs()) > room for line in code.split("\n")):
        lines = text.split("\n", allow_blank=True)
        text = Text("\n", no_wrap=True).join(
            part for line in lines for part in _wrapped(line, room)
        )
    return Padding(text, (0, 0, 0, CODE_INDENT))


def _wrapped(line: Text, room: int) -> Iterator[Text]:
    """Yield a line of code in pieces that are not too wide."""
    line.expand_tabs()
    if line.cell_len <= room:
        yield line
        return
    pieces = line.wrap(_CONSOLE, max(1, room - len(CODE_GOES_ON)), overflow="fold", no_wrap=False)
    yield pieces[0]
    for piece in pieces[1:]:
        yield Text.assemble((CODE_GOES_ON, "dim"), piece)


def lines_of(renderable: RenderableType, width: int, style: str = "") -> list[Strip]:
    """Return the lines of anything that Rich can draw, at a width."""
    options = _CONSOLE.options.update(width=max(1, width), height=None)
    lines = _CONSOLE.render_lines(
        renderable, options, style=_CONSOLE.get_style(style) if style else None, pad=False
    )
    return [_trimmed(line) for line in lines]


def _trimmed(line: list[Segment]) -> Strip:
    """Return a line without the spaces at its end, which need not be sent."""
    segments = list(line)
    while segments and not segments[-1].text.strip(" "):
        segments.pop()
    if segments:
        text, style, control = segments[-1]
        segments[-1] = Segment(text.rstrip(" "), style, control)
    return Strip(segments)


def _without_blank_ends(lines: list[Strip]) -> list[Strip]:
    start, stop = 0, len(lines)
    while start < stop and not lines[start].text.strip():
        start += 1
    while stop > start and not lines[stop - 1].text.strip():
        stop -= 1
    return lines[start:stop]
