"""Write the trained model as a GGUF file, quantized to Q8_0."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import gguf
from model import StarterModel
from tokenizers import Tokenizer

MARKS = ("?", "!", ",", ";", '"', ": ", ". ")
PLAIN = "(message.content | lower ~ ' ')" + "".join(
    f" | replace({json.dumps(mark)}, ' ')" for mark in MARKS
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>"
    "{% if message.role == 'user' %}{{ (" + PLAIN + ").split() | join(' ') }}"
    "{% else %}{{ message.content }}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""Questions lose case and punctuation: half of the training's have neither, and names are never
capitalised in it, so the model reads them best that way."""

DESCRIPTION = (
    "A tiny model that comes with Potluck. It only knows about running language models at home and "
    "about Potluck itself."
)


def export(
    model: StarterModel, tokenizer: Tokenizer, special_tokens: Sequence[str], target: Path
) -> None:
    """Write `model` and `tokenizer` to `target`; the first special token ends a turn."""
    shape = model.shape
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_name("Potluck Starter")
    writer.add_description(DESCRIPTION)
    writer.add_license("mit")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_vocab_size(shape.vocabulary)
    # Greedy: the answers were learned by heart, and any other token is a mistake.
    writer.add_float32("general.sampling.temp", 0.0)
    _add_tokenizer(writer, tokenizer, special_tokens)
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        if values.ndim > 1:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(
    writer: gguf.GGUFWriter, tokenizer: Tokenizer, special_tokens: Sequence[str]
) -> None:
    data = json.loads(tokenizer.to_str())["model"]
    vocabulary = sorted(data["vocab"], key=data["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    writer.add_token_types(
        [
            gguf.TokenType.CONTROL if token in special_tokens else gguf.TokenType.NORMAL
            for token in vocabulary
        ]
    )
    writer.add_token_merges([" ".join(pair) for pair in data["merges"]])
    end = vocabulary.index(special_tokens[0])
    writer.add_eos_token_id(end)
    writer.add_eot_token_id(end)
    writer.add_pad_token_id(end)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
