"""Which way of holding a model fits: a search made of questions to the engine.

The longest context that fits, the best split between cards and the host, how a node holds a model
by default, and what fits where that does not. It is the same for every engine that has a `Sizer`,
and no size comes out of it that was not asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from potluck_proto.errors import PotluckError
from potluck_worker.engines.base import KvType
from potluck_worker.engines.sizing import HOST, Estimate, Fit, Options, Plan, Room, Sizer

CONTEXT_STEP = 256
"""Tokens; engines round up to this."""

SHORTEST_DEFAULT_CONTEXT = 2048
"""Tokens below which a node does not shorten its default context to make a model fit."""

SPARED_BY_HALF: KvType = "q8_0"
"""The kind of cache that takes about half of the default one and costs hardly any quality."""

FAST_GUESSES = 6
"""Guesses by the rule of three before a search halves the range, which is sure to end soon."""


def plan(sizer: Sizer, options: Options, room: Room, *, shorten: bool) -> Plan:
    """Decide how a node holds a model by default.

    As the settings say, if that fits. Else with all layers on cards and a shorter context; else
    with fewer layers there; else with both. Where nothing helps, it stays as the settings say, and
    a load is refused with the numbers of that.

    Args:
        sizer: The file.
        options: What the settings say.
        room: What is free, or would be without other models.
        shorten: Whether the context may be shorter than `options` say.
    """
    asked = sizer.ask(options)
    if room.holds(asked):
        return Plan(asked, room)
    for found in _lesser_ways(sizer, asked, options, room, shorten=shorten):
        return Plan(found, room, _note(found, asked))
    return Plan(asked, room)


def _lesser_ways(
    sizer: Sizer, asked: Estimate, options: Options, room: Room, *, shorten: bool
) -> Iterator[Estimate]:
    """Yield ways that fit where `asked` does not, the better before the worse."""
    context_length = asked.options.context_length or 0
    shortest = min(SHORTEST_DEFAULT_CONTEXT, sizer.training_context_length, context_length)
    if shorten and (found := largest_context(sizer, options, room, shortest, context_length - 1)):
        yield found
    if options.gpu_layers is None and asked.layers:
        if found := best_split(sizer, asked, room):
            yield found
        if shorten and (split := best_split(sizer, sizer.ask(_with(options, shortest)), room)):
            layered = replace(
                options,
                gpu_layers=split.options.gpu_layers,
                host_experts=split.options.host_experts,
            )
            yield largest_context(sizer, layered, room, shortest, context_length) or split


def _with(options: Options, context_length: int) -> Options:
    return replace(options, context_length=context_length)


def _note(found: Estimate, asked: Estimate) -> str:
    """Say what is less than was asked for."""
    parts = []
    short, long = found.options.context_length, asked.options.context_length
    if short != long:
        parts.append(f"its context is {short:,} tokens instead of {long:,}")
    if found.options.gpu_layers != asked.options.gpu_layers:
        parts.append(f"{found.options.gpu_layers} of {asked.layers} layers are on the card")
    if moved := found.options.host_experts:
        layers = "1 layer" if moved == 1 else f"{moved} layers"
        parts.append(f"the experts of {layers} are in main memory")
    return f"So that it fits, {' and '.join(parts)}."


def largest_context(
    sizer: Sizer, options: Options, room: Room, shortest: int, longest: int
) -> Estimate | None:
    """Return the longest context from `shortest` to `longest` that fits, `None` where none does."""
    # Lengths that differ by less than a step take the same, so only the last of a step counts.
    longest = min(longest, sizer.training_context_length)
    if shortest > longest:
        return None
    lengths = [*range(-(-shortest // CONTEXT_STEP) * CONTEXT_STEP, longest, CONTEXT_STEP), longest]
    return _last_that_fits(
        lambda at: sizer.ask(_with(options, lengths[at])), len(lengths), room.spare_bytes
    )


def best_split(sizer: Sizer, asked: Estimate, room: Room) -> Estimate | None:
    """Return the way with the most on cards that fits, `None` where the host is full too.

    Experts leave the cards first, then whole layers.
    """
    cards = replace(room, free_bytes={**room.free_bytes, HOST: 2**62}, unified=())
    experts = asked.expert_layers

    def with_experts(layers: int) -> Estimate:
        return sizer.ask(replace(asked.options, host_experts=experts - layers))

    def with_layers(layers: int) -> Estimate:
        return sizer.ask(replace(asked.options, gpu_layers=layers, host_experts=experts))

    found = _last_that_fits(with_experts, experts, cards.spare_bytes) if experts else None
    if found is None:
        found = _last_that_fits(with_layers, asked.layers, cards.spare_bytes)
    return found if found is not None and room.holds(found) else None


def _last_that_fits(
    ask: Callable[[int], Estimate], count: int, spare_bytes: Callable[[Estimate], int]
) -> Estimate | None:
    """Return the last of `count` estimates that fits, where each takes more than the one before.

    What they take grows nearly in proportion, so it is found in four or five questions.
    """
    low, high = 0, count - 1
    last = ask(high)
    if (high_spare := spare_bytes(last)) >= 0:
        return last
    found = ask(low)
    if (low_spare := spare_bytes(found)) < 0:
        return None
    guesses = 0
    while high - low > 1:
        share = low_spare / (low_spare - high_spare) if guesses < FAST_GUESSES else 0.5
        guesses += 1
        at = min(max(low + int(share * (high - low)), low + 1), high - 1)
        estimate = ask(at)
        spare = spare_bytes(estimate)
        if spare >= 0:
            low, low_spare, found = at, spare, estimate
        else:
            high, high_spare = at, spare
    return found


def fit(sizer: Sizer, options: Options, room: Room) -> Fit:
    """Say what a model takes, with what context at most, and what would fit where it does not."""
    asked = sizer.ask(options)
    longest = sizer.training_context_length
    largest = largest_context(sizer, options, room, min(CONTEXT_STEP, longest), longest)
    if room.holds(asked):
        return Fit(asked, largest)
    instead = tuple(_instead(sizer, asked, options, room, largest))
    return Fit(asked, largest, instead or tuple(_least(sizer, options, room)))


def _instead(
    sizer: Sizer, asked: Estimate, options: Options, room: Room, largest: Estimate | None
) -> Iterator[Estimate]:
    """Yield ways that fit: those that keep the context first, then those that keep the speed."""
    spared = _with_half_the_cache(sizer, options)
    if spared is not None and room.holds(spared):
        yield spared
    if (options.slots or 1) > 1 and room.holds(found := sizer.ask(replace(options, slots=1))):
        yield found
    if largest is not None:
        yield largest
    if options.gpu_layers is None and asked.layers and (split := best_split(sizer, asked, room)):
        yield split


def _least(sizer: Sizer, options: Options, room: Room) -> Iterator[Estimate]:
    """Yield the way that is less in context, slots and cache at once, if even that fits."""
    least = replace(options, slots=1)
    if _with_half_the_cache(sizer, options) is not None:
        least = replace(least, kv_type=SPARED_BY_HALF)
    longest = options.context_length or 0
    if found := largest_context(sizer, least, room, min(CONTEXT_STEP, longest), longest):
        yield found


def _with_half_the_cache(sizer: Sizer, options: Options) -> Estimate | None:
    """Return what it takes with a smaller kind of cache, `None` where it cannot have one."""
    if options.kv_type != "f16" or options.flash_attention is False:
        return None
    try:
        return sizer.ask(replace(options, kv_type=SPARED_BY_HALF))
    except PotluckError:
        return None
