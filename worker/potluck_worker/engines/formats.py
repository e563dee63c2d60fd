"""Prompt formats by name, for files that come without a chat template.

Each is a chat template in Jinja, as a family of models was trained on it.
"""

from __future__ import annotations

from collections.abc import Mapping

COMPLETION = "completion"
"""No format at all: the model goes on with what was said last."""

_SYSTEM_FIRST = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
)

FORMATS: Mapping[str, str] = {
    COMPLETION: "{{ messages[-1].content }}",
    "user-bot": (
        "{% for m in messages %}"
        "{{ {'user': 'User', 'assistant': 'Bot'}.get(m.role, 'System') }}: {{ m.content }}\n"
        "{% endfor %}{% if add_generation_prompt %}Bot:{% endif %}"
    ),
    "alpaca": (
        _SYSTEM_FIRST + "{{ system or 'Below is an instruction that describes a task. Write a "
        "response that appropriately completes the request.' }}\n\n"
        "{% for m in messages %}"
        "### {{ 'Response' if m.role == 'assistant' else 'Instruction' }}:\n{{ m.content }}\n\n"
        "{% endfor %}{% if add_generation_prompt %}### Response:\n{% endif %}"
    ),
    "vicuna": (
        _SYSTEM_FIRST + "{{ system or 'A chat between a curious user and an artificial "
        "intelligence assistant.' }} "
        "{% for m in messages %}"
        "{% if m.role == 'assistant' %}ASSISTANT: {{ m.content }}{{ eos_token }}"
        "{% else %}USER: {{ m.content }} {% endif %}"
        "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
    "orca-mini": (
        _SYSTEM_FIRST + "### System:\n{{ system or 'You are an AI assistant.' }}\n\n"
        "{% for m in messages %}"
        "### {{ 'Response' if m.role == 'assistant' else 'User' }}:\n{{ m.content }}\n\n"
        "{% endfor %}{% if add_generation_prompt %}### Response:\n{% endif %}"
    ),
    "chatml": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "llama-2": (
        _SYSTEM_FIRST + "{% for m in messages %}"
        "{% if m.role == 'assistant' %} {{ m.content }} {{ eos_token }}"
        "{% else %}{{ bos_token }}[INST] "
        "{% if loop.first and system %}<<SYS>>\n{{ system }}\n<</SYS>>\n\n{% endif %}"
        "{{ m.content }} [/INST]{% endif %}{% endfor %}"
    ),
    "llama-3": (
        "{{ bos_token }}{% for m in messages %}"
        "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>"
        "{% endfor %}{% if add_generation_prompt %}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    ),
    "zephyr": (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    ),
    "gemma": (
        _SYSTEM_FIRST + "{{ bos_token }}{% for m in messages %}<start_of_turn>"
        "{{ 'model' if m.role == 'assistant' else 'user' }}\n"
        "{% if loop.first and system %}{{ system }}\n\n{% endif %}"
        "{{ m.content }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    ),
}

STOPS: Mapping[str, tuple[str, ...]] = {
    "user-bot": ("\nUser:",),
    "alpaca": ("### Instruction:",),
    "vicuna": ("USER:",),
    "orca-mini": ("### User:",),
    "chatml": ("<|im_end|>",),
    "llama-3": ("<|eot_id|>",),
    "zephyr": ("<|user|>",),
    "gemma": ("<end_of_turn>",),
}
"""What a model says where its turn ends, where its file may not have that as a token."""

BASE_NOTE = (
    "A base model: it goes on with a text, and was not made to answer. "
    f"`potluck template {{name}} {COMPLETION}` has it go on with what you write; in the place of "
    f"{COMPLETION} a prompt format may stand: "
    f"{', '.join(name for name in FORMATS if name != COMPLETION)}."
)
"""For a person who would chat with one."""
