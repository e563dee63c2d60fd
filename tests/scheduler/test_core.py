from __future__ import annotations

import pytest

from potluck_proto.errors import (
    Draining,
    ModelFileError,
    MovedTooOften,
    NodeLost,
    NoNodes,
    NotEnoughMemory,
    QueueFull,
    SchedulerRestarted,
)
from potluck_proto.ids import GenerationId, NodeId
from potluck_scheduler.core import events
from potluck_scheduler.core.events import (
    Cause,
    Dispatch,
    Instruction,
    Load,
    LoadFailed,
    LoadFinished,
    NodeSuspected,
    NodeUpdated,
    Queue,
    Refuse,
    RequestInterrupted,
    RequestStalled,
    RequestSubmitted,
    SpeedMeasured,
    TimePassed,
)
from potluck_scheduler.core.explanation import Step
from potluck_scheduler.core.model import Loaded, ModelKey
from potluck_scheduler.core.resolve import default_model
from potluck_scheduler.core.state import Limits
from scheduler.builders import (
    DIED,
    GIB,
    OTHER,
    SMALL,
    Core,
    loaded,
    model,
    node,
    nodes_of,
    request,
    warm,
)

# --- loads -----------------------------------------------------------------------------------


def test_a_cold_model_is_loaded_and_then_answers_with_the_reason_of_the_load() -> None:
    core = Core(node("a", 8))
    load, queue = core.submit("1")
    assert load == Load(NodeId("a"), SMALL)
    assert isinstance(queue, Queue)
    assert queue.decision.step is Step.COLD_FITS
    (dispatch,) = core(LoadFinished(NodeId("a"), SMALL, 2.0))
    assert isinstance(dispatch, Dispatch)
    assert dispatch.decision.explanation.summary == "loaded now, takes 2.0 of 8.0 GiB free"


def test_those_who_come_while_it_loads_share_the_load() -> None:
    core = Core(node("a", 8))
    core.submit("1")
    (queue,) = core.submit("2")
    assert isinstance(queue, Queue)
    assert "loaded on a" in queue.decision.explanation.summary
    assert len(nodes_of(core(LoadFinished(NodeId("a"), SMALL, 2.0)))) == 2


def test_two_loads_decided_together_do_not_promise_the_same_memory() -> None:
    core = Core(node("a", 8, model(SMALL, 5), model(OTHER, 5)))
    assert isinstance(core.submit("1", "small")[0], Load)
    (waits,) = core.submit("2", "other")
    assert isinstance(waits, Queue)
    held = loaded(SMALL, memory_bytes=5 * GIB, ready=False)
    core(NodeUpdated(node("a", 3, model(SMALL, 5), model(OTHER, 5), loaded=(held,))))
    core(LoadFinished(NodeId("a"), SMALL, 1.0))
    assert not [each for each in core(TimePassed(), 1) if isinstance(each, Load)]
    (load,) = [*core.end("1"), *core(TimePassed(), 1)]
    assert load == Load(NodeId("a"), OTHER, (SMALL,))


def test_a_node_that_promises_memory_and_refuses_the_load_is_believed_the_second() -> None:
    core = Core(node("a", 8), node("b", 7))
    (load, _) = core.submit("1")
    assert isinstance(load, Load)
    first = load.node_id
    no = NotEnoughMemory("small needs 2.0 GiB; 1.0 are free.")
    (again,) = core(LoadFailed(first, SMALL, no))
    assert isinstance(again, Load)
    assert again.node_id != first
    (refuse,) = core(LoadFailed(again.node_id, SMALL, no))
    assert isinstance(refuse, Refuse)
    assert refuse.decision.error == no


def test_an_engine_that_dies_while_it_loads_is_tried_again_and_not_for_ever() -> None:
    core = Core(node("a", 8))
    core.submit("1")
    for _ in range(2):
        assert core(LoadFailed(NodeId("a"), SMALL, DIED)) == []
        assert core(TimePassed(), 0.1) == []
        assert Load(NodeId("a"), SMALL) in core(TimePassed(), 5)
    (refuse,) = core(LoadFailed(NodeId("a"), SMALL, DIED))
    assert isinstance(refuse, Refuse)
    assert refuse.decision.error == DIED


def test_a_long_queue_gets_a_second_node_while_memory_is_free() -> None:
    core = Core(node("a", 0, **warm()), node("b", 8))
    for _ in range(20):
        core(SpeedMeasured(NodeId("a"), SMALL, 100, 10.0, 0, 0.0))
    loads = []
    for number in range(30):
        loads += [each for each in core.submit(str(number)) if isinstance(each, Load)]
    assert loads == [Load(NodeId("b"), SMALL)]
    assert len(nodes_of(core(LoadFinished(NodeId("b"), SMALL, 1.0)))) == 4


def test_two_models_that_are_asked_for_in_turn_are_not_swapped_for_each_answer() -> None:
    files = (model(SMALL, 6), model(OTHER, 6))
    core = Core(node("a", 8, *files))
    loads: list[ModelKey] = []
    answered = 0

    def obey(said: list[Instruction]) -> None:
        nonlocal answered
        for each in said:
            if isinstance(each, Load):
                loads.append(each.key)
                held = loaded(each.key, memory_bytes=6 * GIB)
                obey(core(NodeUpdated(node("a", 2, *files, loaded=(held,)))))
                obey(core(LoadFinished(NodeId("a"), each.key, 0.1)))
            elif isinstance(each, Dispatch):
                answered += 1
                obey(core.end(each.generation_id))

    for second in range(120):
        obey(core.submit(str(second), ("small", "other")[second % 2]))
        obey(core(TimePassed(), 1))
    assert answered > 80
    assert 4 <= len(loads) <= 12, "each stays for some twenty seconds"


def test_a_model_that_waited_long_gets_the_memory_of_one_that_is_busy_all_the_time() -> None:
    files = (model(SMALL, 6), model(OTHER, 6))
    busy = loaded(SMALL, memory_bytes=6 * GIB)
    core = Core(node("a", 2, *files, loaded=(busy,)))
    core.submit("1")
    (queue,) = core.submit("2", "other")
    assert isinstance(queue, Queue)
    core(TimePassed(), 20)
    assert nodes_of(core.submit("3")) == ["a"]
    core(TimePassed(), 20)
    assert nodes_of(core.submit("4")) == [], "it takes no new answers now"
    core.end("1")
    core.end("3")
    assert Load(NodeId("a"), OTHER, (SMALL,)) in core(TimePassed(), 1)


# --- the queue -------------------------------------------------------------------------------


def test_clients_are_served_in_turn_and_each_in_the_order_in_which_it_asked() -> None:
    core = Core(node("a", 0, **warm(loaded(slots=1))))
    core.submit("now")
    for name in ("x1", "x2", "x3", "y1", "y2", "z1"):
        core.submit(name, client=name[0])
    served = []
    name = "now"
    for _ in range(6):
        (dispatch,) = core.end(name)
        assert isinstance(dispatch, Dispatch)
        name = dispatch.generation_id
        served.append(name)
    assert served == ["x1", "y1", "z1", "x2", "y2", "x3"]


def test_those_who_wait_know_their_position_and_about_how_long() -> None:
    core = Core(node("a", 0, **warm(loaded(slots=1))))
    core(SpeedMeasured(NodeId("a"), SMALL, 100, 10.0, 0, 0.0))
    core.submit("now")
    positions, waits = [], []
    for name in ("1", "2", "3"):
        (queue,) = core.submit(name)
        assert isinstance(queue, Queue)
        positions.append(queue.position)
        waits.append(queue.wait_seconds)
    assert positions == [0, 1, 2]
    assert 10 < waits[0] < waits[1] < waits[2] < 100
    core.end("now")
    place = core.scheduler.place_in_queue(GenerationId("3"))
    assert place is not None
    assert place[0] == 1
    assert place[1] == pytest.approx(waits[1])
    assert core.scheduler.place_in_queue(GenerationId("1")) is None


def test_a_full_queue_refuses_with_the_number() -> None:
    core = Core(node("a", 0, **warm(loaded(slots=1))), limits=Limits(queued=2))
    for name in ("now", "1", "2"):
        core.submit(name)
    (refuse,) = core.submit("3")
    assert isinstance(refuse, Refuse)
    assert isinstance(refuse.decision.error, QueueFull)
    assert "2 requests wait already" in refuse.decision.error.message


def test_one_who_gives_up_in_the_queue_makes_way() -> None:
    core = Core(node("a", 0, **warm(loaded(slots=1))))
    for name in ("now", "1", "2"):
        core.submit(name)
    assert core.end("1") == []
    (dispatch,) = core.end("now")
    assert isinstance(dispatch, Dispatch)
    assert dispatch.generation_id == "2"


# --- nodes -----------------------------------------------------------------------------------


def test_a_suspect_node_gets_no_new_work_until_it_speaks() -> None:
    core = Core(node("a", 0, **warm()), node("b", 0, **warm(loaded(busy=3))))
    core(NodeSuspected(NodeId("a")))
    assert nodes_of(core.submit("1")) == ["b"]
    (queue,) = core.submit("2")
    assert isinstance(queue, Queue)
    assert nodes_of(core(NodeUpdated(node("a", 0, **warm())))) == ["a"]


def test_a_node_that_is_lost_again_and_again_waits_longer_each_time() -> None:
    core = Core(node("a", 0, **warm()))
    waits = []
    for _ in range(5):
        core(events.NodeLost(NodeId("a")))
        core(NodeUpdated(node("a", 0, **warm())))
        waited = 0.0
        name = f"{core.now}"
        while not nodes_of(core.submit(name)):
            core.end(name)
            core(NodeUpdated(node("a", 0, **warm())), 0.5)
            waited += 0.5
        core.end(name)
        waits.append(waited)
    assert waits[0] == 0
    assert waits[1:] == sorted(waits[1:])
    assert waits[-1] >= 4
    core(events.NodeLost(NodeId("a")), 1_000)
    core(NodeUpdated(node("a", 0, **warm())))
    assert nodes_of(core.submit("later")) == ["a"], "what was long ago is forgotten"


def test_a_new_scheduler_waits_for_workers_before_it_says_that_there_is_no_such_model() -> None:
    core = Core()
    (queue,) = core.submit("1")
    assert isinstance(queue, Queue)
    assert core(TimePassed(), 1) == []
    assert nodes_of(core(NodeUpdated(node("a", 0, **warm())))) == ["a"]
    core(events.NodeLost(NodeId("a")), 5)
    (refuse,) = core.submit("2")
    assert isinstance(refuse, Refuse)
    assert isinstance(refuse.decision.error, NoNodes)


def test_those_who_waited_for_a_node_that_is_lost_wait_for_it_to_return() -> None:
    core = Core(node("a", 0, **warm(loaded(slots=1))), limits=Limits(return_seconds=60))
    core.submit("1")
    core.submit("2")
    (queue,) = core(events.NodeLost(NodeId("a")), 100)
    assert isinstance(queue, Queue)
    assert queue.generation_id == "2"
    assert nodes_of(core(NodeUpdated(node("a", 0, **warm(loaded(slots=2)))), 50)) == ["a"]


# --- moves -----------------------------------------------------------------------------------


def test_an_interrupted_answer_goes_on_elsewhere_ahead_of_those_who_wait() -> None:
    core = Core(node("a", 0, **warm(loaded(slots=1))), node("b", 0, **warm(loaded(slots=1))))
    first = nodes_of(core.submit("1", prefix=(1, 2, 3)))
    second = nodes_of(core.submit("2"))
    core.submit("3")
    core(events.NodeLost(NodeId(first[0])))
    (queue,) = core.interrupt("1", tokens=100)
    assert isinstance(queue, Queue)
    assert queue.position == 0
    (dispatch,) = core.end("2")
    assert isinstance(dispatch, Dispatch)
    assert (dispatch.generation_id, [dispatch.node_id]) == ("1", second)


def test_an_interrupted_answer_returns_to_its_node_where_that_is_the_only_one() -> None:
    core = Core(node("a", 8, **warm()))
    core.submit("1")
    said = core.interrupt("1", Cause.ENGINE_DIED, tokens=50)
    assert nodes_of(said) == []
    assert Load(NodeId("a"), SMALL) in core(TimePassed(), 1)
    assert nodes_of(core(LoadFinished(NodeId("a"), SMALL, 1.0))) == ["a"]


def test_an_interrupted_answer_waits_for_a_node_and_ends_in_words_if_none_comes() -> None:
    core = Core(node("a", 0, **warm()), limits=Limits(return_seconds=60))
    core.submit("1")
    core(events.NodeLost(NodeId("a")), 10)
    (queue,) = core.interrupt("1", tokens=50)
    assert isinstance(queue, Queue)
    assert core(TimePassed(), 50) == []
    (refuse,) = core(TimePassed(), 11)
    assert isinstance(refuse, Refuse)
    assert isinstance(refuse.decision.error, NodeLost)
    assert "a was lost. It could not go on: No worker is connected" in refuse.decision.error.message


def test_an_answer_that_may_not_move_ends_where_it_was_interrupted() -> None:
    core = Core(node("a", 0, **warm()), node("b", 0, **warm()))
    core.submit("1", may_move=False)
    (refuse,) = core.interrupt("1")
    assert isinstance(refuse, Refuse)
    assert refuse.decision.error == NodeLost("a was lost.")


def test_an_answer_under_which_three_engines_died_in_a_row_is_sent_to_no_fourth() -> None:
    core = Core(*(node(name, 8, **warm()) for name in "abcde"))
    visited = nodes_of(core.submit("1"))
    for _ in range(2):
        visited += nodes_of(core.interrupt("1", Cause.ENGINE_DIED, tokens=3))
    assert len(set(visited)) == 3
    (refuse,) = core.interrupt("1", Cause.ENGINE_DIED, tokens=5)
    assert isinstance(refuse, Refuse)
    assert isinstance(refuse.decision.error, MovedTooOften)
    assert "failed 3 times in a row under this answer" in refuse.decision.error.message


def test_machines_that_are_lost_speak_less_against_an_answer_than_engines_that_die() -> None:
    core = Core(*(node(name, 8, **warm()) for name in "abcdefgh"))
    core.submit("1")
    for _ in range(5):
        assert nodes_of(core.interrupt("1", Cause.NODE_LOST, tokens=3))
    (refuse,) = core.interrupt("1", Cause.NODE_LOST, tokens=3)
    assert isinstance(refuse, Refuse)
    assert isinstance(refuse.decision.error, MovedTooOften)


def test_an_answer_that_gets_further_each_time_may_move_as_often_as_it_must() -> None:
    nodes = [node(name, 8, **warm()) for name in "ab"]
    core = Core(*nodes)
    core.submit("1")
    for number in range(1, 50):
        assert nodes_of(core.interrupt("1", tokens=20 * number))
        for each in nodes:
            core(NodeUpdated(each))


def test_an_answer_that_a_node_had_not_begun_is_not_blamed_for_its_death() -> None:
    nodes = [node(name, 8, **warm()) for name in "ab"]
    core = Core(*nodes)
    core.submit("1")
    for _ in range(5):
        event = RequestInterrupted(GenerationId("1"), Cause.NODE_LOST, DIED, 0, begun=False)
        assert nodes_of(core(event))
        for each in nodes:
            core(NodeUpdated(each))


def test_a_node_that_lost_an_answer_gets_no_other_until_it_speaks_again() -> None:
    core = Core(node("a", 0, **warm()))
    core.submit("1")
    (queue,) = core.interrupt("1", tokens=20)
    assert isinstance(queue, Queue)
    assert nodes_of(core(NodeUpdated(node("a", 0, **warm())))) == ["a"]


def test_an_answer_that_no_node_takes_is_not_passed_around_for_ever() -> None:
    core = Core(*(node(name, 8, **warm()) for name in "abc"))
    said = core.submit("1")
    turns = 0
    while not any(isinstance(each, Refuse) for each in said):
        said = core.interrupt("1", Cause.TURNED_AWAY) if nodes_of(said) else core(TimePassed(), 1)
        turns += 1
        assert turns < 200
    assert isinstance(said[0], Refuse)
    assert isinstance(said[0].decision.error, MovedTooOften)


def test_answers_on_a_draining_node_leave_it_when_there_is_a_place() -> None:
    core = Core(node("a", 0, **warm()))
    core.submit("1")
    core.submit("2", may_move=False)
    draining = node("a", 0, draining=True, **warm(loaded(busy=2)))
    assert core(NodeUpdated(draining)) == []
    core(NodeUpdated(node("b", 8)))
    assert core(NodeUpdated(draining)) == [Load(NodeId("b"), SMALL)]
    assert core(NodeUpdated(draining)) == []
    core(LoadFinished(NodeId("b"), SMALL, 1.0))
    (dispatch,) = core(NodeUpdated(draining))
    assert isinstance(dispatch, Dispatch)
    assert (dispatch.generation_id, dispatch.node_id) == ("1", "b")


def test_answers_of_a_model_that_is_unloaded_leave_it_and_new_ones_do_not_come() -> None:
    core = Core(node("a", 8, model(), model(OTHER), **warm(loaded(), loaded(OTHER))))
    core.submit("1")
    core.submit("2", "other")
    unloading = (loaded(busy=1, ready=False, draining=True), loaded(OTHER, busy=1))
    assert core(NodeUpdated(node("a", 8, model(), model(OTHER), loaded=unloading))) == []
    (queue,) = core.submit("3")
    assert isinstance(queue, Queue)
    assert nodes_of(core(NodeUpdated(node("b", 0, **warm())))) == ["b"]
    (dispatch,) = core(NodeUpdated(node("a", 8, model(), model(OTHER), loaded=unloading)))
    assert isinstance(dispatch, Dispatch)
    assert (dispatch.generation_id, dispatch.node_id) == ("1", "b")


def test_who_waits_for_a_model_that_is_unloaded_gets_it_loaded_again() -> None:
    core = Core(node("a", 1, **warm(loaded(ready=False, draining=True))))
    (queue,) = core.submit("1")
    assert isinstance(queue, Queue)
    core(NodeUpdated(node("a", 3)))
    assert core(TimePassed(), 1)[0] == Load(NodeId("a"), SMALL)


def test_a_stalled_answer_leaves_only_where_it_can_go_on() -> None:
    core = Core(node("a", 0, **warm()))
    core.submit("1")
    assert core(RequestStalled(GenerationId("1"))) == []
    (queue,) = core.submit("2")
    assert isinstance(queue, Queue), "no other answer goes where one stalls"
    core.end("2")
    core(NodeUpdated(node("b", 0, **warm())))
    assert nodes_of(core(RequestStalled(GenerationId("1")))) == ["b"]


def test_a_restored_answer_waits_longer_for_workers_than_a_new_one() -> None:
    core = Core(limits=Limits(meeting_seconds=3, return_seconds=60))
    restarted = SchedulerRestarted("The scheduler was restarted.")
    core(RequestSubmitted(request("small", "old"), restarted))
    core.submit("new")
    (refuse,) = core(TimePassed(), 10)
    assert isinstance(refuse, Refuse)
    assert refuse.generation_id == "new"
    assert nodes_of(core(NodeUpdated(node("a", 0, **warm())), 40)) == ["a"]
    core(events.NodeLost(NodeId("a")))


def test_where_only_a_draining_node_was_met_so_far_a_request_waits_for_others() -> None:
    core = Core(node("a", 0, draining=True, **warm()), limits=Limits(meeting_seconds=3))
    (queue,) = core.submit("early")
    assert isinstance(queue, Queue)
    assert nodes_of(core(NodeUpdated(node("b", 0, **warm())))) == ["b"]
    core.end("early")
    core(events.NodeLost(NodeId("b")))
    core(TimePassed(), 10)
    (refuse,) = core.submit("late")
    assert isinstance(refuse, Refuse)
    assert isinstance(refuse.decision.error, Draining)


def test_a_restored_answer_that_no_worker_comes_for_ends_in_words() -> None:
    core = Core()
    restarted = SchedulerRestarted("The scheduler was restarted.")
    core(RequestSubmitted(request("small", "old"), restarted))
    (refuse,) = core(TimePassed(), 61)
    assert isinstance(refuse, Refuse)
    assert isinstance(refuse.decision.error, SchedulerRestarted)


def test_a_clock_that_goes_back_makes_time_stand_still() -> None:
    core = Core(node("a", 0, **warm()))
    core.submit("1")
    core(events.NodeLost(NodeId("a")))
    core.interrupt("1", tokens=20)
    assert core(TimePassed(), -500) == []
    assert core(TimePassed(), 500 + 59) == []
    assert isinstance(core(TimePassed(), 2)[0], Refuse)


def test_the_default_is_a_real_model_that_fits_before_the_starter() -> None:
    starter = model(ModelKey("starter", "Q8_0"), 0.1, starter=True, parameter_count=1)
    real = model(ModelKey("real", "Q4_K_M"), 4, parameter_count=8)
    larger = model(ModelKey("larger", "Q4_K_M"), 6, parameter_count=12)
    huge = model(ModelKey("huge", "Q4_K_M"), 90, parameter_count=70)
    assert default_model([]) == ""
    assert default_model([node("a", 8, starter)]) == "starter:Q8_0"
    assert default_model([node("a", 8, starter, huge)]) == "starter:Q8_0"
    assert default_model([node("a", 8, starter, real, larger, huge)]) == "larger:Q4_K_M"
    broken = model(ModelKey("broken", ""), 0, problem=ModelFileError("x"))
    assert default_model([node("a", 8, starter, broken)]) == "starter:Q8_0"
    assert default_model([node("a", 8, broken)]) == "broken"
    embedder = model(ModelKey("embedder", "F16"), 1, parameter_count=9, embeds_only=True)
    assert default_model([node("a", 8, starter, embedder)]) == "starter:Q8_0"
    held = node("a", 8, starter, real, larger, loaded=(Loaded(real.key),))
    assert default_model([held]) == "real:Q4_K_M"
