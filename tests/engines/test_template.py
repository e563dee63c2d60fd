from __future__ import annotations

import resource
import signal
import time

import pytest

from potluck_proto.errors import BadRequest, TemplateError
from potluck_worker.engines.base import ChatMessage
from potluck_worker.engines.prompt import conversation_of
from potluck_worker.engines.template import ChatTemplate

MESSAGES = [ChatMessage("system", "Be brief."), ChatMessage("user", "Hi")]


def test_a_file_without_a_template_gets_a_transcript() -> None:
    template = ChatTemplate("", "", "")
    assert (
        template.render(conversation_of(MESSAGES)) == "System: Be brief.\n\nUser: Hi\n\nAssistant:"
    )
    assert template.stop


def test_a_template_has_what_templates_expect() -> None:
    source = (
        "{{ bos_token }}{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}"
        "[{{ m['role'] }}] {{ m.content | trim }}{{ eos_token }}{% endfor %}"
        "{{ strftime_now('%Y') | length }}"
    )
    assert (
        ChatTemplate(source, "<s>", "</s>").render(conversation_of(MESSAGES)) == "<s>[user] Hi</s>4"
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ raise_exception('no system role') }}", "no system role"),
        ("{{ messages[5].content }}", "fails on this conversation"),
        ("{{ 1 / 0 }}", "fails on this conversation"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    ],
)
def test_a_template_that_fails_or_reaches_out_is_refused(source: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        ChatTemplate(source, "", "").render(conversation_of(MESSAGES))


def test_what_is_no_template_is_said() -> None:
    with pytest.raises(TemplateError, match="broken"):
        ChatTemplate("{% for %}", "", "")


TOOLS = '[{"type": "function", "function": {"name": "weather", "description": "Wie <warm>?"}}]'
CALLS = '[{"id": "c1", "name": "weather", "arguments": "{\\"city\\": \\"Köln\\"}"}]'
WITH_TOOLS = (
    "{% if tools %}{% for tool in tools %}{{ tool | tojson }}{% endfor %}{% endif %}"
    "{% for m in messages %}[{{ m.role }}{% if m.tool_call_id %} {{ m.tool_call_id }}{% endif %}]"
    "{% if m.reasoning_content is defined %}({{ m.reasoning_content }}){% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<{{ c.id }} {{ c.function.name }} "
    "{{ c.function.arguments.city }} {{ c.function.arguments | tojson }}>{% endfor %}"
    "{% endfor %}"
)


def test_tools_calls_and_reasoning_reach_the_template() -> None:
    conversation = conversation_of(
        [
            ChatMessage("user", "Hi"),
            ChatMessage("assistant", "", reasoning="Hm.", tool_calls=CALLS),
            ChatMessage("tool", "warm", tool_call_id="c1"),
        ],
        TOOLS,
    )
    assert ChatTemplate(WITH_TOOLS, "", "").render(conversation) == (
        '{"type": "function", "function": {"name": "weather", "description": "Wie <warm>?"}}'
        '[user]Hi[assistant](Hm.)<c1 weather Köln {"city": "Köln"}>[tool c1]warm'
    )


def test_a_template_of_its_own_for_tools_is_used_with_tools_alone() -> None:
    template = ChatTemplate("plain", "", "", tool_use="{{ tools | length }} tool")
    assert template.render(conversation_of(MESSAGES)) == "plain"
    assert template.render(conversation_of(MESSAGES, TOOLS)) == "1 tool"


def test_tools_for_a_template_that_knows_none_are_refused() -> None:
    for source in ("", "{{ messages[0].content }}"):
        with pytest.raises(BadRequest, match="knows no tools"):
            ChatTemplate(source, "", "").render(conversation_of(MESSAGES, TOOLS))
        called = [ChatMessage("user", "Hi"), ChatMessage("assistant", "", tool_calls=CALLS)]
        with pytest.raises(BadRequest, match="has a tool call"):
            ChatTemplate(source, "", "").render(conversation_of(called))
    assert ChatTemplate("", "", "").render(conversation_of(MESSAGES, "[]"))


@pytest.mark.parametrize(
    ("tools", "calls", "message"),
    [
        ("{", "", "The tools are no JSON"),
        ("{}", "", "The tools are a JSON dict"),
        ("[" * 100_000, "", "The tools are no JSON"),
        ("", "nonsense", "The tool calls of a message are no JSON"),
        ("", '["f"]', "with a name"),
        ("", '[{"name": "f", "arguments": "{"}]', "arguments of the call of f are no JSON"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_no_tool_is_refused(tools: str, calls: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        conversation_of([ChatMessage("assistant", "", tool_calls=calls)], tools)


@pytest.mark.parametrize(
    ("thinking", "expected"), [(None, "as it likes"), (True, "thinks"), (False, "does not")]
)
def test_thinking_is_left_to_the_template_unless_it_is_said(
    thinking: bool | None, expected: str
) -> None:
    for name in ("enable_thinking", "thinking"):
        source = (
            f"{{% if {name} is not defined %}}as it likes{{% elif {name} %}}thinks"
            "{% else %}does not{% endif %}"
        )
        conversation = conversation_of(MESSAGES, thinking=thinking)
        assert ChatTemplate(source, "", "").render(conversation) == expected


def test_marks_for_training_are_passed_over() -> None:
    source = "a{% generation %}{{ messages[1].content }}{% endgeneration %}b"
    assert ChatTemplate(source, "", "").render(conversation_of(MESSAGES)) == "aHib"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "longer than",
        ),
        ("{{ 'x' * 10**9 * 10 }}", "makes too much"),
        ("{{ [0] * 10**9 }}", "makes too much"),
        ("{{ 10 ** 10000000000 }}", "makes too much"),
        ("{{ 'x' | center(10000000000) }}", "MemoryError"),
        (
            "{% set n = namespace(s='x') %}{% for a in messages * 20 %}"  # noqa: ISC004
            "{% set n.s = n.s ~ n.s %}{% endfor %}",
            "MemoryError|longer than",
        ),
    ],
)
def test_a_template_without_end_is_ended(
    source: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potluck_worker.engines.template.RENDER_SECONDS", 1.5)
    handler = signal.getsignal(signal.SIGALRM)
    memory = resource.getrlimit(resource.RLIMIT_AS)
    alarm = signal.getitimer(signal.ITIMER_REAL)[0]
    started = time.monotonic()
    with pytest.raises(TemplateError, match=message):
        ChatTemplate(source, "", "").render(conversation_of(MESSAGES))
    assert time.monotonic() - started < 4
    assert signal.getsignal(signal.SIGALRM) is handler
    assert resource.getrlimit(resource.RLIMIT_AS) == memory
    left = signal.getitimer(signal.ITIMER_REAL)[0]
    assert alarm - 5 < left <= alarm
