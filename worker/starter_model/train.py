"""Make the starter model: tokenizer, training, GGUF. `python train.py [MINUTES] [--go-on]`.

With `--go-on` it starts from the file that is there, which learns changed answers in a third of the
time. Needs `requirements.txt`. Loss is taken on the answers alone, so what is learned is which
answer a question wants. Everything is seeded; times vary with the machine.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import gguf
import torch
from corpus import Corpus, Turn
from export_gguf import export
from model import Shape, StarterModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional

SPECIAL_TOKENS = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
BATCH_TOKENS = 5_000
POOL = 1024
PEAK_LEARNING_RATE = 2e-3
DROPOUT = 0.15
WHOLE_SHARE = 0.15
"""Samples whose last answer is learned to its end."""
IGNORED = -100
TARGET = (
    Path(__file__).resolve().parents[1] / "potluck_worker" / "models" / "potluck-starter-Q8_0.gguf"
)


def train_tokenizer(texts: list[str], vocabulary: int) -> Tokenizer:
    """Return a byte-level BPE tokenizer with the special tokens first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(
    tokenizer: Tokenizer, system: str | None, turns: list[Turn], most: int | None = None
) -> tuple[list[int], list[bool]]:
    """Return a conversation's token ids, and which of them the model must learn to say.

    `most` cuts the last answer off after so many tokens.
    """
    end, system_mark, user_mark, assistant_mark = range(len(SPECIAL_TOKENS))
    ids: list[int] = []
    said: list[bool] = []

    def add(tokens: list[int], learned: bool) -> None:
        ids.extend(tokens)
        said.extend([learned] * len(tokens))

    def text(content: str) -> list[int]:
        return list(tokenizer.encode(content, add_special_tokens=False).ids)

    if system is not None:
        add([system_mark, *text(system), end], False)
    for turn in turns:
        add([user_mark, *text(turn.question), end, assistant_mark], False)
        add([*text(turn.answer), end], True)
    if most is not None:
        first = len(ids) - len(text(turns[-1].answer)) - 1
        del ids[first + most :], said[first + most :]
    return ids, said


def batches(
    corpus: Corpus, tokenizer: Tokenizer, longest: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield inputs and targets, each [batch, length], of conversations of similar length."""
    generator = torch.Generator().manual_seed(1)
    while True:
        # Which answer is meant shows in its first tokens, and the rest is soon known by heart: most
        # samples end early, so that more questions are seen in the same time.
        lengths = torch.rand(POOL, generator=generator).tolist()
        pool = [
            encode(tokenizer, *corpus.conversation(), most=None if length < WHOLE_SHARE else 6)
            for length in lengths
        ]
        pool = sorted((item for item in pool if len(item[0]) <= longest), key=lambda i: len(i[0]))
        groups: list[list[tuple[list[int], list[bool]]]] = [[]]
        for item in pool:
            if groups[-1] and len(item[0]) * (len(groups[-1]) + 1) > BATCH_TOKENS:
                groups.append([])
            groups[-1].append(item)
        for index in torch.randperm(len(groups), generator=generator).tolist():
            yield _tensors(groups[index])


def _tensors(group: list[tuple[list[int], list[bool]]]) -> tuple[torch.Tensor, torch.Tensor]:
    length = max(len(ids) for ids, _ in group) - 1
    inputs = torch.zeros(len(group), length, dtype=torch.long)
    targets = torch.full((len(group), length), IGNORED)
    for row, (ids, said) in enumerate(group):
        inputs[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        learned = [token if mark else IGNORED for token, mark in zip(ids, said, strict=True)]
        targets[row, : len(ids) - 1] = torch.tensor(learned[1:])
    return inputs, targets


def train(model: StarterModel, corpus: Corpus, tokenizer: Tokenizer, minutes: float) -> float:
    """Train for a time; return the last mean loss, in nats per answer token."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}],
        lr=PEAK_LEARNING_RATE,
        betas=(0.9, 0.98),
    )
    started, step, mean_loss = time.monotonic(), 0, math.nan
    for inputs, targets in batches(corpus, tokenizer, longest=1024):
        progress = (time.monotonic() - started) / (minutes * 60)
        if progress >= 1:
            break
        rate = min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LEARNING_RATE * rate
        wanted = targets != IGNORED
        hidden = model(inputs)[wanted]
        loss = functional.cross_entropy(model.logits(hidden), targets[wanted])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean_loss = loss.item() if step == 0 else 0.98 * mean_loss + 0.02 * loss.item()
        step += 1
        if step % 50 == 0:
            print(f"{progress:4.0%} step {step} loss {mean_loss:.4f}", flush=True)
    print(f"{step} steps, {time.monotonic() - started:.0f} s, loss {mean_loss:.4f}")
    return mean_loss


def begin(shape: Shape, corpus: Corpus) -> tuple[StarterModel, Tokenizer]:
    """Return a model that knows nothing, and a tokenizer for the corpus."""
    tokenizer = train_tokenizer(corpus.texts(), shape.vocabulary)
    return StarterModel(shape, dropout=DROPOUT), tokenizer


def go_on(shape: Shape) -> tuple[StarterModel, Tokenizer]:
    """Return the model and the tokenizer of the file that is there."""
    reader = gguf.GGUFReader(TARGET)
    words = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(pair.split(" ")) for pair in reader.fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({word: at for at, word in enumerate(words)}, merges))
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    model = StarterModel(shape, dropout=DROPOUT)
    weights = {
        tensor.name: torch.tensor(gguf.dequantize(tensor.data, tensor.tensor_type))
        for tensor in reader.tensors
    }
    model.load_state_dict(weights)
    return model, tokenizer


def main() -> None:
    """Make the model file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("minutes", nargs="?", type=float, default=25.0)
    parser.add_argument("--go-on", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    shape = Shape()
    corpus = Corpus(seed=0)
    model, tokenizer = go_on(shape) if options.go_on else begin(shape, corpus)
    print(f"{len(corpus.topics)} topics, {sum(p.numel() for p in model.parameters()):,} parameters")
    train(model, corpus, tokenizer, options.minutes)
    model.eval()
    export(model, tokenizer, SPECIAL_TOKENS, TARGET)
    print(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
