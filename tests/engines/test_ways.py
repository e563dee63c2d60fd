from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potluck_proto.errors import ModelFileError
from potluck_worker.engines.sizing import HOST, Estimate, Options, Room, Share
from potluck_worker.engines.ways import CONTEXT_STEP, best_split, fit, largest_context, plan

MIB = 2**20
GIB = 2**30
OPTIONS = Options(4096, 4, "f16")


@dataclass
class Paper:
    """A model on paper: the sizes of an 8B model, on a host and perhaps a card.

    As llama.cpp has it, a card that holds layers computes, and holds a buffer for that.
    """

    training_context_length: int = 32_768
    layers: int = 37
    layer_bytes: int = 220 * MIB
    token_bytes: int = 144 * 1024
    compute_bytes: int = 300 * MIB
    process_bytes: int = 90 * MIB
    expert_layers: int = 0
    """Layers of which nine tenths are experts."""
    asked: list[Options] = field(default_factory=list)

    def ask(self, options: Options) -> Estimate:
        self.asked.append(options)
        assert options.context_length and options.slots
        if options.kv_type == "q4_0":
            raise ModelFileError("Not with these heads.")
        on_cards = self.layers if options.gpu_layers is None else options.gpu_layers
        share = on_cards / self.layers if self.layers else 0.0
        size = {"f16": 1.0, "q8_0": 0.53}[options.kv_type or "f16"]
        away = share * (options.host_experts or 0) / max(1, self.expert_layers) * 0.9
        weights_on_card = share - away
        cache_bytes = int(self.token_bytes * options.context_length * options.slots * size)
        weights_bytes = self.layer_bytes * (self.layers or 37)
        host = Share(
            HOST,
            int(weights_bytes * (1 - weights_on_card)),
            int(cache_bytes * (1 - share)),
            0 if share == 1 else self.compute_bytes,
            self.process_bytes,
        )
        card = Share(
            "CUDA0",
            int(weights_bytes * weights_on_card),
            int(cache_bytes * share),
            self.compute_bytes if share else 0,
        )
        held = replace(
            options,
            gpu_layers=on_cards,
            host_experts=options.host_experts or 0,
            flash_attention=True,
        )
        shares = (host, card) if self.layers else (host,)
        return Estimate(held, shares, self.layers, self.expert_layers)


ON_HOST = Paper(layers=0)


def host(free_bytes: int) -> Room:
    return Room({HOST: free_bytes})


def card(host_bytes: int, card_bytes: int) -> Room:
    return Room({HOST: host_bytes, "CUDA0": card_bytes})


@given(
    st.integers(1, 40),
    st.integers(1, 8),
    st.integers(1, 50_000),
    st.integers(1, 100_000),
)
def test_the_largest_context_is_the_one_that_trying_them_all_finds(
    free_gib: int, slots: int, longest: int, token_bytes: int
) -> None:
    model = Paper(longest, 0, token_bytes=token_bytes)
    options = replace(OPTIONS, slots=slots)
    room = host(free_gib * GIB // 4)
    found = largest_context(model, options, room, 1, longest)
    lengths = {*range(CONTEXT_STEP, longest, CONTEXT_STEP), longest}
    fitting = [
        length
        for length in lengths
        if room.holds(model.ask(replace(options, context_length=length)))
    ]
    assert (found.options.context_length if found else 0) == max(fitting, default=0)


def test_the_largest_context_takes_few_questions() -> None:
    model = Paper(131_072, 0)
    largest_context(model, OPTIONS, host(20 * GIB), 256, 131_072)
    assert len(model.asked) <= 5


@given(st.integers(0, 20 * 1024), st.integers(0, 20 * 1024))
def test_the_best_split_is_the_one_that_trying_them_all_finds(host_mib: int, card_mib: int) -> None:
    model, room = Paper(), card(host_mib * MIB, card_mib * MIB)
    asked = model.ask(OPTIONS)
    if room.holds(asked):
        return
    found = best_split(model, asked, room)
    fitting = [
        layers
        for layers in range(model.layers)
        if room.holds(model.ask(replace(OPTIONS, gpu_layers=layers)))
    ]
    assert (found.options.gpu_layers if found else -1) == max(fitting, default=-1)


def test_a_split_takes_few_questions_since_each_opens_the_file_again() -> None:
    model = Paper()
    best_split(model, model.ask(OPTIONS), card(16 * GIB, 6 * GIB))
    assert len(model.asked) <= 6


@given(st.integers(0, 20 * 1024), st.integers(0, 20 * 1024))
def test_experts_leave_the_card_before_layers_do(host_mib: int, card_mib: int) -> None:
    model, room = Paper(expert_layers=36), card(host_mib * MIB, card_mib * MIB)
    asked = model.ask(OPTIONS)
    if room.holds(asked):
        return
    found = best_split(model, asked, room)
    with_experts = [
        moved
        for moved in range(1, 37)
        if room.holds(model.ask(replace(OPTIONS, host_experts=moved)))
    ]
    if with_experts:
        assert found is not None
        assert found.options.gpu_layers == 37
        assert found.options.host_experts == min(with_experts)
    elif found is not None:
        assert found.options.host_experts == 36
        assert room.holds(found)


def test_what_is_said_of_experts_that_moved() -> None:
    made = plan(Paper(expert_layers=36), OPTIONS, card(16 * GIB, 4 * GIB), shorten=False)
    assert made.estimate.options.gpu_layers == 37
    moved = made.estimate.options.host_experts
    assert made.note == f"So that it fits, the experts of {moved} layers are in main memory."


def test_memory_that_is_shared_with_the_host_counts_on_both() -> None:
    model = Paper()
    asked = model.ask(OPTIONS)
    apart = card(1 * GIB, 12 * GIB)
    assert apart.holds(asked)
    assert not replace(apart, unified=("CUDA0",)).holds(asked)
    assert replace(card(12 * GIB, 12 * GIB), unified=("CUDA0",)).holds(asked)


def test_a_device_of_which_nothing_is_known_holds_nothing() -> None:
    assert not host(16 * GIB).holds(Paper().ask(OPTIONS))


# --- how a node holds a model by default ----------------------------------------------------------


def test_what_fits_is_held_as_the_settings_say() -> None:
    made = plan(Paper(), OPTIONS, card(2 * GIB, 16 * GIB), shorten=True)
    assert made.estimate.options == replace(
        OPTIONS, gpu_layers=37, host_experts=0, flash_attention=True
    )
    assert made.note == ""


def test_a_shorter_context_comes_before_layers_on_the_processor() -> None:
    made = plan(Paper(), OPTIONS, card(16 * GIB, int(9.5 * GIB)), shorten=True)
    context_length = made.estimate.options.context_length
    assert context_length is not None
    assert 2048 <= context_length < 4096
    assert made.estimate.options.gpu_layers == 37
    assert (
        made.note == f"So that it fits, its context is {context_length:,} tokens instead of 4,096."
    )


def test_layers_on_the_processor_come_before_a_context_that_is_too_short() -> None:
    made = plan(Paper(), OPTIONS, card(16 * GIB, 6 * GIB), shorten=True)
    assert made.estimate.options.context_length == 4096
    layers = made.estimate.options.gpu_layers
    assert layers is not None
    assert 10 < layers < 30
    assert made.note == f"So that it fits, {layers} of 37 layers are on the card."


def test_where_all_is_tight_both_are_less() -> None:
    made = plan(Paper(), OPTIONS, card(4 * GIB, 6 * GIB), shorten=True)
    assert made.room.holds(made.estimate)
    assert made.estimate.options.gpu_layers != 37
    assert made.estimate.options.context_length in range(2048, 4096)


@pytest.mark.parametrize("free_gib", [1, 5])
def test_what_cannot_fit_stays_as_the_settings_say(free_gib: int) -> None:
    made = plan(ON_HOST, OPTIONS, host(free_gib * GIB), shorten=True)
    assert made.estimate.options.context_length == 4096
    assert not made.room.holds(made.estimate)
    assert made.note == ""


def test_a_context_that_a_model_has_for_itself_is_not_shortened() -> None:
    tight = card(16 * GIB, int(9.5 * GIB))
    made = plan(Paper(), OPTIONS, tight, shorten=False)
    assert made.estimate.options.context_length == 4096
    assert made.estimate.options.gpu_layers != 37


def test_layers_that_were_asked_for_are_not_moved() -> None:
    options = replace(OPTIONS, gpu_layers=37)
    made = plan(Paper(), options, card(16 * GIB, 6 * GIB), shorten=True)
    assert made.estimate.options.gpu_layers == 37
    assert not made.room.holds(made.estimate)


def test_a_model_trained_for_little_is_not_asked_for_more() -> None:
    model = Paper(1000, 0)
    made = plan(model, replace(OPTIONS, context_length=1000), host(8 * GIB), shorten=True)
    assert not made.room.holds(made.estimate)
    assert all(options.context_length in range(1001) for options in model.asked)


# --- whether it fits, and what would ------------------------------------------------------------


def test_every_alternative_fits() -> None:
    room = card(16 * GIB, 11 * GIB)
    found = fit(Paper(), replace(OPTIONS, context_length=16_384), room)
    assert not room.holds(found.asked)
    assert all(room.holds(way) for way in found.instead)
    kinds = [
        (way.options.kv_type, way.options.slots, way.options.gpu_layers) for way in found.instead
    ]
    assert kinds == [("f16", 1, 37), ("f16", 4, 37), ("f16", 4, kinds[-1][2])]
    assert found.largest == found.instead[1]


def test_a_cache_of_half_the_size_comes_first() -> None:
    found = fit(Paper(), OPTIONS, card(16 * GIB, int(9.6 * GIB)))
    assert found.instead[0].options == replace(
        OPTIONS, kv_type="q8_0", gpu_layers=37, host_experts=0, flash_attention=True
    )


def test_a_cache_that_the_engine_refuses_is_no_alternative() -> None:
    class Picky(Paper):
        def ask(self, options: Options) -> Estimate:
            if options.kv_type != "f16":
                raise ModelFileError("Not with these heads.")
            return super().ask(options)

    found = fit(Picky(layers=0), OPTIONS, host(9 * GIB))
    assert {way.options.kv_type for way in found.instead} == {"f16"}


def test_what_fits_has_no_alternatives_and_says_how_long_it_could_be() -> None:
    room = host(16 * GIB)
    found = fit(ON_HOST, OPTIONS, room)
    assert room.holds(found.asked)
    assert found.instead == ()
    assert found.largest is not None
    assert found.largest.options.context_length in range(4096, 32_768)


def test_where_nothing_that_is_less_in_one_thing_fits_all_is_less() -> None:
    model = Paper(layers=0, token_bytes=1024 * 1024)
    room = host(10 * GIB)
    found = fit(model, replace(OPTIONS, slots=64), room)
    assert found.largest is None
    (least,) = found.instead
    assert room.holds(least)
    assert (least.options.slots, least.options.kv_type) == (1, "q8_0")
    assert least.options.context_length in range(CONTEXT_STEP, 4096)


def test_where_nothing_fits_nothing_is_promised() -> None:
    found = fit(ON_HOST, OPTIONS, host(GIB))
    assert (found.largest, found.instead) == (None, ())


# --- the same way -------------------------------------------------------------------------------


def test_a_model_is_what_was_asked_for_where_nothing_that_was_asked_differs() -> None:
    held = Paper().ask(replace(OPTIONS, gpu_layers=20))
    assert held.is_what(Options())
    assert held.is_what(Options(context_length=4096, gpu_layers=20))
    assert not held.is_what(Options(context_length=2048))
    assert not held.is_what(Options(gpu_layers=21))
    assert not held.is_what(Options(flash_attention=False))
    assert not held.is_what(Options(lora_adapters=("a",)))


def test_more_layers_than_there_are_is_all_of_them() -> None:
    assert Paper().ask(OPTIONS).is_what(Options(gpu_layers=999))
    assert ON_HOST.ask(OPTIONS).is_what(Options(gpu_layers=999))
