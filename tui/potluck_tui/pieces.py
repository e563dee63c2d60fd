"""What of a message can be copied by itself: code blocks and links."""

from __future__ import annotations

import re
from collections.abc import Iterator

from markdown_it.token import Token

from potluck_tui.clean import clean
from potluck_tui.markdown_blocks import parse

_BARE_LINK = re.compile(r"https?://[^\s<>\"'`]+[^\s<>\"'`.,;:!?)\]}]")


def code_blocks(markdown: str) -> list[str]:
    """Return the code of each block, in order."""
    return [
        token.content.removesuffix("\n")
        for token in parse(clean(markdown))
        if token.type in {"fence", "code_block"}
    ]


def links(markdown: str) -> list[str]:
    """Return the address of each link, in order, each once."""
    return list(dict.fromkeys(_links(parse(clean(markdown)))))


def _links(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type == "link_open":
            yield str(token.attrs["href"])
        elif token.type in {"text", "code_inline", "fence", "code_block"}:
            yield from _BARE_LINK.findall(token.content)
        yield from _links(token.children or [])
