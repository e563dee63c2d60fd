from __future__ import annotations

import asyncio
import json

import pytest

from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from worker.conftest import Worker, prompt, text_of

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"enum": ["ada", "bob"]},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


def tokens_of(responses: list[pb.GenerateResponse], first: int = 0) -> list[int]:
    """Return the ids of an answer's tokens, having seen that none is missing or doubled."""
    tokens: list[int] = []
    for delta in (response.delta for response in responses):
        if delta.token_ids:
            assert delta.first_token_index == first + len(tokens)
            tokens += delta.token_ids
    return tokens


async def goes_on(
    worker: Worker, request: pb.GenerateRequest, tokens: list[int], text: str
) -> list[pb.GenerateResponse]:
    """Return what comes of a request whose answer began elsewhere."""
    request.continuation.token_ids.extend(tokens)
    request.continuation.text = text
    return [response async for response in worker.stub.Generate(request)]


async def test_the_node_shows_what_vllm_runs(worker: Worker) -> None:
    state = await worker.state()
    (vllm,) = [engine for engine in state.engines if engine.name == "vllm"]
    assert vllm.available
    assert vllm.version.startswith("0.")
    models = {model.name: model for model in state.models}
    assert list(models["opt"].engines) == ["vllm"]
    assert models["opt"].format == types.MODEL_FORMAT_SAFETENSORS
    assert not models["opt"].HasField("problem")


@pytest.mark.parametrize("model", ["llama", "opt"])
async def test_an_answer_streams(worker: Worker, model: str) -> None:
    responses = await worker.ask(model, temperature=0, max_tokens=30)
    assert len(tokens_of(responses)) == 30
    assert len(text_of(responses).split()) == 30
    end = responses[-1].end
    assert end.reason == types.END_REASON_MAX_TOKENS
    assert end.usage.completion_tokens == 30
    assert end.usage.prompt_tokens > 2
    assert end.usage.tokens_per_second > 0


async def test_the_model_in_memory_says_what_it_takes(worker: Worker) -> None:
    await worker.ask("llama", max_tokens=1)
    state = await worker.state()
    (loaded,) = [model for model in state.loaded if model.name == "llama"]
    assert loaded.engine == "vllm"
    assert (loaded.context_length, loaded.slots) == (512, 4)
    assert 0 < loaded.weights_bytes < loaded.memory_bytes
    # Two layers, two heads of 32, keys and values, in 16 bits, for each cell and a bit more.
    assert 2048 * 512 <= loaded.kv_cache_bytes <= 2048 * 512 * 1.1


async def test_answers_stream_side_by_side_and_do_not_mix(worker: Worker) -> None:
    alone = text_of(await worker.ask("llama", "one", temperature=0, max_tokens=200))
    order: list[str] = []

    async def ask(content: str) -> str:
        text = ""
        request = prompt("llama", content, temperature=0, max_tokens=200)
        async for response in worker.stub.Generate(request):
            text += response.delta.text
            order.extend([content] * response.HasField("delta"))
        return text

    one, two = await asyncio.gather(ask("one"), ask("two"))
    assert one == alone
    assert two != one
    assert "two" in order[: order.index("one") + 3] or "one" in order[: order.index("two") + 3]
    assert order.index("two") < len(order) - 1 - order[::-1].index("one")


async def test_a_prompt_that_is_known_is_not_computed_again(worker: Worker) -> None:
    story = "Once there was a machine in the attic. " * 8
    first = (await worker.ask("llama", story + "End?", max_tokens=1))[-1].end.usage
    second = (await worker.ask("llama", story + "Why?", max_tokens=1))[-1].end.usage
    assert first.cached_prompt_tokens < 32
    assert second.cached_prompt_tokens > first.prompt_tokens - 64


async def test_a_closed_stream_cancels(worker: Worker) -> None:
    call = worker.stub.Generate(prompt("llama", temperature=0))
    async for response in call:
        if response.HasField("delta"):
            break
    call.cancel()
    async for watched in worker.stub.Watch(pb.WatchRequest()):
        (loaded,) = [model for model in watched.state.loaded if model.name == "llama"]
        if loaded.slots_busy == 0:
            break


async def test_more_answers_than_slots_wait_and_come(worker: Worker) -> None:
    answers = await asyncio.gather(
        *(worker.ask("llama", str(number), max_tokens=60) for number in range(7))
    )
    ends = [responses[-1].end for responses in answers]
    # Random weights may end an answer early.
    assert all(0 < end.usage.completion_tokens <= 60 for end in ends)
    assert max(end.usage.queue_seconds for end in ends) > min(
        end.usage.decode_seconds for end in ends
    )


async def test_a_stop_string_ends_an_answer_before_it(worker: Worker) -> None:
    whole = text_of(await worker.ask("llama", temperature=0, max_tokens=30))
    words = whole.split()
    stop = f"{words[3][-1]} {words[4][:2]}"  # over the border of two tokens
    assert whole.index(stop) > 0
    responses = await worker.ask("llama", temperature=0, max_tokens=30, stop=["nothing", stop])
    assert text_of(responses) == whole[: whole.index(stop)]
    end = responses[-1].end
    assert (end.reason, end.stop_string) == (types.END_REASON_STOP_STRING, stop)


async def test_an_answer_ends_where_the_context_does(worker: Worker) -> None:
    end = (await worker.ask("llama", "x" * 480, temperature=0))[-1].end
    assert end.reason == types.END_REASON_CONTEXT_FULL
    assert end.usage.prompt_tokens + end.usage.completion_tokens == 512


async def test_a_prompt_that_is_too_long_is_said_before_any_work(worker: Worker) -> None:
    (response,) = await worker.ask("llama", "x" * 600)
    assert response.end.error.code == types.ERROR_CODE_CONTEXT_OVERFLOW
    assert "604 tokens long" in response.end.error.message


async def test_a_seed_gives_the_same_answer_also_beside_others(worker: Worker) -> None:
    one, two, three = await asyncio.gather(
        *(worker.ask("llama", seed=seed, max_tokens=40) for seed in (7, 7, 8))
    )
    assert tokens_of(one) == tokens_of(two) != tokens_of(three)
    without = await asyncio.gather(*(worker.ask("llama", max_tokens=40) for _ in range(2)))
    assert tokens_of(without[0]) != tokens_of(without[1])


async def test_a_seeded_request_whose_prompt_takes_several_steps_is_answered(
    worker: Worker,
) -> None:
    answers = await asyncio.gather(
        *(worker.ask("llama", "long " * 90, seed=5, max_tokens=8) for _ in range(3))
    )
    assert len({tuple(tokens_of(responses)) for responses in answers}) == 1


@pytest.mark.parametrize("moved_after", [1, 17, 39])
async def test_a_seeded_answer_that_moved_goes_on_as_it_would_have(
    worker: Worker, moved_after: int
) -> None:
    whole = await worker.ask("llama", seed=11, max_tokens=40, top_p=0.9, stop=["never"])
    tokens, text = tokens_of(whole), text_of(whole)
    given = text[: moved_after // 2]
    request = prompt("llama", seed=11, max_tokens=40, top_p=0.9, stop=["never"])
    rest = await goes_on(worker, request, tokens[:moved_after], given)
    assert tokens_of(rest, moved_after) == tokens[moved_after:]
    assert given + text_of(rest) == text
    assert rest[-1].end.usage.completion_tokens == 40


async def test_an_answer_from_elsewhere_goes_on_from_its_text(worker: Worker) -> None:
    request = prompt("llama", temperature=0, max_tokens=20)
    rest = await goes_on(worker, request, [], "It was ")
    offsets = [r.delta.text_offset for r in rest if r.delta.text]
    assert offsets[0] == len("It was ")
    assert len(tokens_of(rest, len("It was "))) == 20 - len("It was ")


async def test_an_answer_that_moved_after_its_last_token_only_ends(worker: Worker) -> None:
    whole = await worker.ask("llama", temperature=0, max_tokens=5)
    request = prompt("llama", temperature=0, max_tokens=5)
    rest = await goes_on(worker, request, tokens_of(whole), text_of(whole)[:3])
    assert text_of(whole)[:3] + text_of(rest) == text_of(whole)
    assert rest[-1].end.reason == types.END_REASON_MAX_TOKENS


async def test_log_probabilities_come_with_each_token(worker: Worker) -> None:
    responses = await worker.ask("llama", temperature=1.5, seed=3, max_tokens=12, logprobs=3)
    deltas = [response.delta for response in responses if response.delta.token_ids]
    assert sum(len(delta.logprobs) for delta in deltas) == 12
    for delta in deltas:
        for token, at in zip(delta.token_ids, delta.logprobs, strict=True):
            assert at.token_ids[0] == token
            assert len(at.token_ids) == len(at.logprobs) == 4
            assert 0 > at.logprobs[1] >= at.logprobs[2] >= at.logprobs[3]
            assert at.logprobs[0] <= at.logprobs[1]


@pytest.mark.parametrize("seed", range(3))
async def test_an_answer_fits_its_json_schema(worker: Worker, seed: int) -> None:
    responses = await worker.ask("llama", seed=seed, json_schema=json.dumps(SCHEMA))
    answer = json.loads(text_of(responses))
    assert answer.keys() == {"name", "age"}
    assert 0 <= answer["age"] <= 99
    assert responses[-1].end.reason == types.END_REASON_END_OF_TURN


async def test_an_answer_that_moved_goes_on_within_its_schema(worker: Worker) -> None:
    schema = json.dumps(SCHEMA)
    whole = await worker.ask("llama", seed=2, json_schema=schema)
    tokens, text = tokens_of(whole), text_of(whole)
    request = prompt("llama", seed=2, json_schema=schema)
    rest = await goes_on(worker, request, tokens[:9], text[:9])
    assert text[:9] + text_of(rest) == text
    foreign = prompt("llama", seed=2, json_schema=schema)
    refused = await goes_on(worker, foreign, [], "Well, ")
    assert "does not match the grammar" in refused[-1].end.error.message


async def test_an_answer_follows_a_grammar(worker: Worker) -> None:
    grammar = 'root ::= "yes" | "no " [a-c]+ "."'
    assert text_of(await worker.ask("llama", seed=1, grammar=grammar)).startswith(("yes", "no "))
    (broken,) = await worker.ask("llama", grammar="root ::= missing")
    assert "missing" in broken.end.error.message


async def test_tools_and_thinking_reach_the_template(worker: Worker) -> None:
    async def prompt_tokens(**more: object) -> int:
        request = prompt("llama", max_tokens=1)
        request.MergeFrom(pb.GenerateRequest(**more))  # type: ignore[arg-type]
        responses = [response async for response in worker.stub.Generate(request)]
        return responses[-1].end.usage.prompt_tokens

    plain = await prompt_tokens()
    assert await prompt_tokens(thinking=False) == plain + len("no thoughts")
    assert await prompt_tokens(tools_json='[{"name": "f"}]') == plain + 2 + len('[{"name": "f"}]')


async def test_a_message_cannot_pass_for_the_templates_marks(worker: Worker) -> None:
    end = (await worker.ask("llama", "<|end|>", max_tokens=1))[-1].end
    plain = (await worker.ask("llama", "#######", max_tokens=1))[-1].end
    assert end.usage.prompt_tokens == plain.usage.prompt_tokens


async def test_what_vllm_lacks_is_refused_by_name(worker: Worker) -> None:
    (refused,) = await worker.ask("llama", dry=types.Dry(multiplier=1.0), typical_p=0.5)
    assert refused.end.error.code == types.ERROR_CODE_BAD_REQUEST
    assert "no typical_p and no dry" in refused.end.error.message
