from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from lineages.gguf_file import write
from lineages.kinds import LINEAGES
from lineages.make import metadata, tensors
from potluck_worker.convert_model import describe
from potluck_worker.engines.formats import FORMATS, STOPS
from potluck_worker.engines.template import ChatTemplate, Conversation
from potluck_worker.models import ModelStore
from potluck_worker.settings import ModelSettings, WorkerSettings
from worker.stores import MANY, store

TALK = (
    {"role": "system", "content": "SYS"},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
)


def rendered(name: str) -> str:
    return ChatTemplate("file's own", "<s>", "</s>", prompt_format=name).render(Conversation(TALK))


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_has_all_turns_in_order_and_leaves_the_word_to_the_model(name: str) -> None:
    text = rendered(name)
    assert text.endswith(("three", "[/INST]")) or text.index("three") < len(text) - 5
    if name != "completion":
        places = [text.index(word) for word in ("SYS", "one", "two", "three")]
        assert places == sorted(places)
    alone = ChatTemplate("", "<s>", "</s>", prompt_format=name)
    assert "hello" in alone.render(Conversation([{"role": "user", "content": "hello"}]))


def test_formats_are_as_their_models_know_them() -> None:
    assert rendered("completion") == "three"
    assert rendered("llama-2") == (
        "<s>[INST] <<SYS>>\nSYS\n<</SYS>>\n\none [/INST] two </s><s>[INST] three [/INST]"
    )
    assert rendered("alpaca").startswith("SYS\n\n### Instruction:\none\n\n### Response:\ntwo\n\n")
    assert rendered("vicuna") == "SYS USER: one ASSISTANT: two</s>USER: three ASSISTANT:"
    assert rendered("chatml").endswith("<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\n")
    assert set(STOPS) <= set(FORMATS)


def test_a_format_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValidationError, match="there are completion, user-bot"):
        ModelSettings(template="nonsense")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with a model that has no chat template."""
    folder = tmp_path / "models"
    folder.mkdir()
    kind = LINEAGES["llama"]
    said = metadata(kind, "plain")
    del said["tokenizer.chat_template"]
    write(folder / "plain.gguf", "llama", said, tensors(kind))
    return folder


async def test_a_base_model_says_so_and_how_to_use_it_all_the_same(base: Path) -> None:
    model = await store(base).find("plain", "", MANY)
    description = describe(model)
    assert "A base model" in description.note
    assert "`potluck template plain completion`" in description.note
    assert "alpaca" in description.note
    assert not description.has_chat_template


async def test_with_a_format_it_is_as_if_the_file_had_a_template(base: Path) -> None:
    settings = WorkerSettings(
        context_length=256, slots=1, models={"plain": ModelSettings(template="chatml")}
    )
    models: ModelStore = store(base, settings=settings)
    model = await models.find("plain", "", MANY)
    assert model.prompt_format == "chatml"
    description = describe(model)
    assert description.has_chat_template
    assert not description.note
    plain = describe(await store(base).find("plain", "", MANY))
    assert description.template_sha256 != plain.template_sha256
