from __future__ import annotations

from pathlib import Path

import pytest

from potluck_proto.errors import BadRequest
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.preset import Preset, check_name
from tui.real_stage import ask, real_stage
from tui.stage import type_at_once, until

NO_FIELDS = Preset().fields()


def test_a_preset_crosses_the_wire_with_what_this_program_does_not_know() -> None:
    sampling = types.Sampling(
        temperature=0.7, seed=2**64 - 1, stop=["a", "b\nc"], grammar="root ::= 'x'", top_k=3
    )
    message = pb.Preset(name="p", sampling=sampling, thinking=False)
    preset = Preset.from_proto(message)
    assert preset.numbers == {"temperature": 0.7, "seed": 2**64 - 1}
    assert (preset.stop, preset.thinking) == (("a", "b\nc"), False)
    assert preset.to_proto() == message


def test_fields_say_what_is_set_and_are_read_back() -> None:
    preset = Preset("p", {"temperature": 0.7, "max_tokens": 100}, ("END", "\n\n"), thinking=True)
    fields = preset.fields()
    assert (fields["temperature"], fields["max_tokens"], fields["top_p"]) == ("0.7", "100", "")
    assert fields["stop"] == "END | \\n\\n"
    assert preset.read(fields, thinking=True) == preset
    assert Preset().read(NO_FIELDS, thinking=None) == Preset()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("temperature", "hot", "Temperature is a number; 'hot' is none."),
        ("temperature", "-1", "Temperature is between 0 and 10; -1 is not."),
        ("temperature", "nan", "Temperature is between 0 and 10; nan is not."),
        ("top_p", "1.1", "Top-p is between 0 and 1; 1.1 is not."),
        ("max_tokens", "0", "Max tokens is between 1 and 1e"),
        ("max_tokens", "1.5", "Max tokens is a whole number; '1.5' is none."),
        ("seed", "-1", "Seed is between 0 and"),
        ("seed", str(2**64), "Seed is between 0 and"),
    ],
)
def test_a_bad_value_is_refused_in_a_sentence(name: str, text: str, words: str) -> None:
    with pytest.raises(BadRequest) as refused:
        Preset().read(NO_FIELDS | {name: text}, thinking=None)
    assert words in refused.value.message


def test_a_preset_has_a_name_of_one_line() -> None:
    assert check_name(" precise ") == "precise"
    for name in ("", " ", "x" * 41, "a\tb"):
        with pytest.raises(BadRequest):
            check_name(name)


async def test_options_are_set_kept_as_a_preset_and_used(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await pilot.press("ctrl+s")
        await until(pilot, lambda: app.shows("How this chat is answered"))
        await pilot.press(*"Be brief", "tab", "tab")
        await pilot.press(*"0", "full_stop", *"2", "tab", *"7", "enter")
        await until(pilot, lambda: app.shows("Top-p is between 0 and 1; 7 is not."))
        await pilot.press("backspace", "shift+tab", "shift+tab", *"precise", "ctrl+s")
        await until(pilot, lambda: app.shows("“precise” is kept"))
        await until(pilot, lambda: len(app.session.presets) == 1)
        await pilot.press(*["tab"] * 7, "space")
        await until(pilot, lambda: app.shows("‹ on ›"))
        await pilot.press("shift+tab", "enter")
        # With thinking on, the values are no longer the preset's.
        await until(pilot, lambda: app.shows("echo · custom · system prompt"))
        await ask(pilot, app, "Name?", "Mia.")
        asked = app.worker.asked[-1]
        assert round(asked.sampling.temperature, 6) == 0.2
        assert asked.thinking
        assert [message.content for message in asked.messages] == ["Be brief", "Name?"]


async def test_a_system_prompt_is_typed_and_used_as_the_prompt_of_the_chat_is(
    short_tmp: Path,
) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        type_at_once(
            app, "ctrl+s", *"Be", "ctrl+j", *"brief", "tab", *"terse", "tab", *"1", "enter"
        )
        await until(pilot, lambda: app.shows("echo · terse · system prompt"))
        assert app.session.conversation.chat.system_prompt == "Be\nbrief"
        assert app.session.conversation.chat.preset.numbers == {"temperature": 1.0}
        await pilot.press("ctrl+s")
        await until(pilot, lambda: app.shows("How this chat is answered"))
        await pilot.press(*"er", "enter")
        await until(pilot, lambda: app.session.conversation.chat.system_prompt == "Be\nbriefer")


async def test_a_preset_is_taken_for_another_chat_and_forgotten(short_tmp: Path) -> None:
    async with real_stage(short_tmp) as (app, pilot):
        await app.daemon._shelf.save_preset(Preset("wild", {"temperature": 2.0}).to_proto())
        await ask(pilot, app, "Name?", "Mia.")
        await pilot.press("ctrl+n", "ctrl+s")
        await until(pilot, lambda: app.shows("How this chat is answered"))
        app.session.presets = (Preset("wild", {"temperature": 2.0}),)
        app.do([])
        await pilot.press("ctrl+n")
        await until(pilot, lambda: app.shows("wild"))
        await pilot.press("enter")
        await until(pilot, lambda: app.shows("echo · wild"))
        await ask(pilot, app, "Name?", "Mia.")
        assert app.worker.asked[-1].sampling.temperature == 2
        await pilot.press("ctrl+s")
        await until(pilot, lambda: app.shows("How this chat is answered"))
        await pilot.press("ctrl+r")
        await until(pilot, lambda: app.session.presets == ())
        await pilot.press("escape")
        assert app.session.conversation.chat.preset.label == "wild"
