from __future__ import annotations

import pytest

from potluck_proto.errors import TemplateError
from potluck_worker.engines.base import ChatMessage
from potluck_worker.engines.llama.prompt import conversation_of
from potluck_worker.engines.llama.template import ChatTemplate

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
