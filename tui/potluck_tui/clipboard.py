"""Copying from wherever this runs: the terminal, tmux, and a file, as one of them always works.

A clipboard program would fill the clipboard of the machine that this runs on, which over ssh is the
wrong one. So: OSC 52 asks the terminal itself (the caller sends it), `tmux load-buffer -w` asks a
tmux in between, and the file can be fetched by hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from potluck_tui.files import write_private

TMUX_LIMIT_SECONDS = 2.0


async def copy_aside(text: str, file: Path, environment: Mapping[str, str]) -> list[str]:
    """Copy a text to where OSC 52 does not reach.

    Args:
        text: What to copy.
        file: Is replaced by the text, readable only by its owner.
        environment: Says whether there is a tmux.

    Returns:
        Where the text is now, in words.
    """
    places = []
    if environment.get("TMUX") and await _to_tmux(text):
        places.append("the tmux buffer")
    try:
        write_private(file, text)
        places.append(str(file))
    except OSError as error:
        places.append(f"not in {file} ({error.strerror})")
    return places


async def _to_tmux(text: str) -> bool:
    try:
        process = await asyncio.create_subprocess_exec(
            "tmux",
            "load-buffer",
            "-w",
            "-",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return False
    try:
        async with asyncio.timeout(TMUX_LIMIT_SECONDS):
            await process.communicate(text.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        return False
    return process.returncode == 0
