from __future__ import annotations

from pathlib import Path

import pytest

from engines.driving import ask, drive
from potluck_proto.errors import ModelFileError
from potluck_worker.engines.base import Generate, Load
from potluck_worker.engines.fake import FakeEngine, FakeModel, split_words


def load(tmp_path: Path, content: str = "") -> FakeEngine:
    path = tmp_path / "m.fake.toml"
    path.write_text(content)
    engine = FakeEngine()
    engine.load(Load(str(path), 100, 2))
    return engine


def test_it_says_back_what_it_hears(tmp_path: Path) -> None:
    (outcome,) = drive(load(tmp_path), ask("one  two\nthree "))
    assert outcome.text == "You said: one  two\nthree "


@pytest.mark.parametrize("done", [0, 1, 3])
def test_it_goes_on_where_an_answer_was_cut(tmp_path: Path, done: int) -> None:
    engine = load(tmp_path, 'text = "one two three four"')
    words = split_words("one two three four")
    request = Generate("a", ask("x").messages, continue_text="".join(words[:done]))
    engine.submit(request)
    events = []
    while engine.busy:
        events += engine.step()
    assert "".join(getattr(event, "text", "") for event in events) == "".join(words[done:])


def test_it_keeps_to_max_tokens_and_stop_strings(tmp_path: Path) -> None:
    engine = load(tmp_path, 'text = "one two three four"')
    assert drive(engine, ask("x", max_tokens=2))[0].text == "one two "
    assert drive(engine, ask("x", stop=["wo th"]))[0].text == "one t"


def test_a_mistake_in_its_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "m.fake.toml"
    path.write_text("speed = 3")
    with pytest.raises(ModelFileError, match="unknown option: speed"):
        FakeModel.read(path)
