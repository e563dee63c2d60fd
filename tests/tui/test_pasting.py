from __future__ import annotations

import pytest
from textual import events

from potluck_tui.pasting import PasteParser

TEXT = "a \x1b[31mred\rline\x1b[0m\r\x1b[200~ \x1b\x1b end\x1b"
PASTED = TEXT.replace("\x1b", "\ufffd")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_a_paste_with_escapes_is_one_paste_however_it_comes(size: int) -> None:
    parser = PasteParser()
    sent = f"x\x1b[200~{TEXT}\x1b[201~y\x1b[A\x1b[200~again\x1b[201~"
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
    came = [event for piece in pieces for event in parser.feed(piece)]
    pastes = [event.text for event in came if isinstance(event, events.Paste)]
    keys = [event.key for event in came if isinstance(event, events.Key)]
    assert pastes == [PASTED, "again"]
    assert keys == ["x", "y", "up"]
