from __future__ import annotations

import pickle
from collections import defaultdict
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from potluck_proto.errors import (
    ModelFileError,
    NodeLost,
    NotEnoughMemory,
    PotluckError,
    Stalled,
)
from potluck_proto.ids import GenerationId, NodeId
from potluck_scheduler.core import events
from potluck_scheduler.core.events import (
    Cause,
    Dispatch,
    Event,
    Load,
    LoadFailed,
    LoadFinished,
    NodeSuspected,
    NodeUpdated,
    Queue,
    Refuse,
    RequestEnded,
    RequestInterrupted,
    RequestStalled,
    RequestSubmitted,
    SpeedMeasured,
    TimePassed,
)
from potluck_scheduler.core.model import ModelKey
from potluck_scheduler.core.scheduler import Scheduler
from potluck_scheduler.core.state import Limits
from scheduler.builders import DIED, GIB, LARGE, OTHER, SMALL, Core, loaded, model, node, request

KEYS = (SMALL, LARGE, OTHER)
NEEDS_GIB = {SMALL: 2, LARGE: 4, OTHER: 6}
FILES = tuple(model(key, NEEDS_GIB[key], slots=2) for key in KEYS)
NODE_IDS = [NodeId(name) for name in "abc"]
CAUSES = {
    Cause.NODE_LOST: NodeLost("lost"),
    Cause.ENGINE_DIED: DIED,
    Cause.STALLED: Stalled("stalled"),
    Cause.TURNED_AWAY: NotEnoughMemory("no"),
    Cause.MISBEHAVED: PotluckError("a gap"),
}

FAILURES = (NotEnoughMemory("no"), DIED, ModelFileError("x"))


@dataclass
class World:
    """What is true of a node, whatever the scheduler thinks."""

    total_gib: int = 8
    held: dict[ModelKey, int] = field(default_factory=dict)
    """Models in memory, with the answers that others have there."""
    files: tuple[ModelKey, ...] = KEYS
    draining: bool = False
    unloading: set[ModelKey] = field(default_factory=set)

    @property
    def free_bytes(self) -> int:
        return GIB * (self.total_gib - sum(NEEDS_GIB[key] for key in self.held))


class AnyPool(RuleBasedStateMachine):
    """Whatever happens, in whatever order, the core's state stays sound."""

    @initialize()
    def begin(self) -> None:
        self.core = Core(limits=Limits(queued=20))
        self.world = {node_id: World() for node_id in NODE_IDS}
        self.loads: list[Load] = []
        self.told_free: dict[NodeId, int] = {}
        self.promised: dict[NodeId, dict[ModelKey, int]] = defaultdict(dict)
        self.waiting: set[GenerationId] = set()
        self.placed: dict[GenerationId, NodeId] = {}
        self.may_leave: set[GenerationId] = set()
        self.clients: dict[GenerationId, tuple[str, int]] = {}
        self.count = 0

    def tell(self, event: Event, after: float = 0.0) -> None:
        for each in self.core(event, after):
            match each:
                case Load():
                    self.check_load(each)
                    self.loads.append(each)
                case Dispatch():
                    if each.generation_id in self.placed:
                        assert each.generation_id in self.may_leave
                    else:
                        self.waiting.remove(each.generation_id)
                    self.placed[each.generation_id] = each.node_id
                    assert each.decision.error is None
                case Queue():
                    assert each.generation_id in self.waiting
                    assert each.position >= 0
                    assert each.decision.explanation.summary
                case Refuse():
                    self.waiting.remove(each.generation_id)
                    assert each.decision.error is not None
                    assert each.decision.error.message

    def check_load(self, load: Load) -> None:
        """No memory is promised twice, by what the node said last."""
        given = sum(GIB * NEEDS_GIB[key] for key in load.evict)
        promised = self.promised[load.node_id]
        assert load.key not in promised
        needed = GIB * NEEDS_GIB[load.key]
        assert needed + sum(promised.values()) <= self.told_free[load.node_id] + given
        promised[load.key] = needed - given

    def say(self, node_id: NodeId) -> None:
        """Let a node say how it is."""
        world = self.world[node_id]
        ours = sum(at == node_id for at in self.placed.values())
        held = tuple(
            loaded(
                key,
                others + ours,
                slots=2,
                memory_bytes=GIB * NEEDS_GIB[key],
                ready=key not in world.unloading,
                draining=key in world.unloading,
            )
            for key, others in world.held.items()
        )
        for key in world.held:
            self.promised[node_id].pop(key, None)
        self.told_free[node_id] = world.free_bytes
        files = tuple(file for file in FILES if file.key in world.files)
        said = node(node_id, 0, *files, loaded=held, draining=world.draining)
        total_bytes = GIB * world.total_gib
        self.tell(
            NodeUpdated(
                replace(said, memory_free_bytes=world.free_bytes, memory_total_bytes=total_bytes)
            )
        )

    # --- rules ---------------------------------------------------------------------------------

    @rule(node_id=st.sampled_from(NODE_IDS))
    def a_node_says_how_it_is(self, node_id: NodeId) -> None:
        if self.world[node_id].draining or self.world[node_id].unloading:
            self.may_leave |= {g for g, at in self.placed.items() if at == node_id}
        self.say(node_id)

    @rule(node_id=st.sampled_from(NODE_IDS), key=st.sampled_from(KEYS))
    def a_model_is_unloaded_in_two_steps(self, node_id: NodeId, key: ModelKey) -> None:
        world = self.world[node_id]
        if key in world.unloading:
            world.unloading.remove(key)
            del world.held[key]
        elif key in world.held:
            world.unloading.add(key)

    @rule(
        node_id=st.sampled_from(NODE_IDS),
        key=st.sampled_from(KEYS),
        others=st.integers(0, 2),
    )
    def somebody_else_uses_a_node(self, node_id: NodeId, key: ModelKey, others: int) -> None:
        world = self.world[node_id]
        if key in world.held or world.free_bytes >= GIB * NEEDS_GIB[key]:
            world.held[key] = others

    @rule(node_id=st.sampled_from(NODE_IDS), draining=st.booleans())
    def a_node_is_drained_or_not(self, node_id: NodeId, draining: bool) -> None:
        self.world[node_id].draining = draining

    @rule(node_id=st.sampled_from(NODE_IDS), files=st.sets(st.sampled_from(KEYS)))
    def files_come_and_go(self, node_id: NodeId, files: set[ModelKey]) -> None:
        self.world[node_id].files = tuple(files)

    @rule(node_id=st.sampled_from(NODE_IDS))
    def a_node_is_silent(self, node_id: NodeId) -> None:
        self.tell(NodeSuspected(node_id))

    @rule(node_id=st.sampled_from(NODE_IDS), told=st.booleans())
    def a_node_is_lost(self, node_id: NodeId, told: bool) -> None:
        self.world[node_id].held.clear()
        self.world[node_id].unloading.clear()
        self.promised[node_id].clear()
        self.tell(events.NodeLost(node_id))
        for load in [load for load in self.loads if load.node_id == node_id]:
            self.loads.remove(load)
            self.tell(LoadFailed(load.node_id, load.key, NodeLost("lost")))
        if told:
            for name in [g for g, at in self.placed.items() if at == node_id]:
                self.interrupt(name, Cause.NODE_LOST, 0)

    @rule(
        typed=st.sampled_from(["small", "small:Q8_0", "other", "", "unknown"]),
        client=st.sampled_from("xyz"),
        nodes=st.sampled_from([(), (), (), ("a",), ("b", "c"), ("nowhere",)]),
        prefix=st.integers(0, 3),
        may_move=st.booleans(),
    )
    def a_prompt_is_submitted(
        self, typed: str, client: str, nodes: tuple[str, ...], prefix: int, may_move: bool
    ) -> None:
        self.count += 1
        generation_id = GenerationId(str(self.count))
        self.waiting.add(generation_id)
        asked = request(
            typed, generation_id, client=client, nodes=nodes, prefix=(1, 2, 3)[:prefix],
            may_move=may_move,
        )  # fmt: skip
        self.tell(RequestSubmitted(asked))

    @precondition(lambda self: self.loads)
    @rule(
        data=st.data(),
        error=st.sampled_from([None, None, None, *FAILURES]),
    )
    def a_load_ends(self, data: st.DataObject, error: PotluckError | None) -> None:
        self.end_load(data.draw(st.sampled_from(self.loads)), error)

    def end_load(self, load: Load, error: PotluckError | None = None) -> None:
        self.loads.remove(load)
        world = self.world[load.node_id]
        for key in load.evict:
            world.held.pop(key, None)
            world.unloading.discard(key)
        self.promised[load.node_id].pop(load.key, None)
        if error is None and world.free_bytes >= GIB * NEEDS_GIB[load.key]:
            world.held.setdefault(load.key, 0)
            self.tell(LoadFinished(load.node_id, load.key, 1.0))
        else:
            self.tell(LoadFailed(load.node_id, load.key, error or NotEnoughMemory("taken")))

    def interrupt(self, name: GenerationId, cause: Cause, tokens: int) -> None:
        del self.placed[name]
        self.may_leave.discard(name)
        self.waiting.add(name)
        self.tell(RequestInterrupted(name, cause, CAUSES[cause], tokens))

    @precondition(lambda self: self.placed)
    @rule(
        data=st.data(), cause=st.sampled_from(list(Cause)), tokens=st.sampled_from([0, 5, 50, 500])
    )
    def an_answer_is_interrupted(self, data: st.DataObject, cause: Cause, tokens: int) -> None:
        self.interrupt(data.draw(st.sampled_from(sorted(self.placed))), cause, tokens)

    @precondition(lambda self: self.placed)
    @rule(data=st.data())
    def an_answer_stalls(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.placed)))
        self.may_leave.add(name)
        self.tell(RequestStalled(name))

    @precondition(lambda self: self.placed or self.waiting)
    @rule(data=st.data())
    def an_answer_ends(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted([*self.placed, *self.waiting])))
        self.placed.pop(name, None)
        self.waiting.discard(name)
        self.tell(RequestEnded(name, 10, (1, 2, 3, 4)))

    @precondition(lambda self: self.placed)
    @rule(data=st.data(), seconds=st.floats(0.01, 100))
    def a_speed_is_measured(self, data: st.DataObject, seconds: float) -> None:
        node_id = self.placed[data.draw(st.sampled_from(sorted(self.placed)))]
        self.tell(SpeedMeasured(node_id, SMALL, 10, seconds, 5, seconds))

    @rule(after=st.sampled_from([-5.0, 0.1, 1.0, 10.0, 100.0]))
    def time_passes(self, after: float) -> None:
        self.tell(TimePassed(), after)

    @rule()
    def a_request_that_ended_long_ago_is_spoken_of(self) -> None:
        gone = GenerationId("gone")
        self.tell(RequestEnded(gone))
        self.tell(RequestStalled(gone))
        self.tell(RequestInterrupted(gone, Cause.NODE_LOST, DIED, 0))

    # --- what holds ----------------------------------------------------------------------------

    @invariant()
    def each_request_is_known_exactly_once(self) -> None:
        ledger = self.core.scheduler._state.ledger
        assert len(ledger) == len(self.waiting) + len(self.placed)
        assert not self.waiting & self.placed.keys()

    def teardown(self) -> None:
        """Let all be well: then nobody waits for ever, and the story can be told again."""
        if not hasattr(self, "core"):
            return
        for round_number in range(400):
            if not (self.waiting or self.placed):
                break
            for world in self.world.values():
                world.files, world.draining = KEYS, False
                world.held = dict.fromkeys(world.held.keys() - world.unloading, 0)
                world.unloading.clear()
            for load in list(self.loads):
                self.end_load(load)
            for node_id in NODE_IDS:
                self.say(node_id)
            for name in sorted(self.placed):
                del self.placed[name]
                self.tell(RequestEnded(name))
            self.tell(TimePassed(), 1.0)
            assert round_number < 399, f"they wait for ever: {self.waiting}"
        check_story(self.core.scheduler)


def check_story(scheduler: Scheduler) -> None:
    """Check that a story is bounded and can be told again, also by another process."""
    story = pickle.loads(pickle.dumps(scheduler.story))
    if not list(story):
        return
    again = Scheduler.resume(story.beginning, validate=True)
    for entry in story:
        assert tuple(again.handle(entry.event, entry.now)) == entry.instructions


TestAnyPool = AnyPool.TestCase
TestAnyPool.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)


def test_a_story_is_bounded_and_can_be_told_again_from_its_middle() -> None:
    core = Core(node("a", 8), node("b", 8))
    for number in range(1_500):
        for each in core.submit(str(number)):
            if isinstance(each, Load):
                core(LoadFinished(each.node_id, each.key, 1.0))
        core(TimePassed(), 0.1)
        if number >= 10:
            core.end(str(number - 10))
    entries = list(core.scheduler.story)
    assert 2_000 <= len(entries) <= 4_000
    check_story(core.scheduler)
    about = core.scheduler.story.of(GenerationId("1490"))
    assert {type(entry.event) for entry in about} >= {RequestSubmitted}


@given(st.lists(st.sampled_from(["small", "other", "x", ""]), min_size=1, max_size=3), st.data())
def test_every_decision_is_a_sentence(typed: list[str], data: st.DataObject) -> None:
    core = Core()
    for node_id in NODE_IDS:
        files = data.draw(st.lists(st.sampled_from(FILES), unique_by=lambda file: file.key))
        held = data.draw(st.lists(st.sampled_from(KEYS), unique=True))
        core(
            NodeUpdated(
                node(
                    node_id,
                    data.draw(st.integers(0, 8)),
                    *files,
                    loaded=tuple(loaded(key, data.draw(st.integers(0, 5))) for key in held),
                    draining=data.draw(st.booleans()),
                )
            )
        )
    for name in typed:
        decision = core.scheduler.explain(request(name))
        text = decision.error.message if decision.error else decision.explanation.summary
        assert text
        assert "None" not in text
