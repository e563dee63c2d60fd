"""Ask a model file every held-out question; print the share of answers on the right topic.

`python evaluate.py [FILE]`, with `potluck[llama]` installed: Potluck's own engine runs it.
An answer is on the topic whose known answer it is most alike. A question that training could have
asked is refused.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

from corpus import Corpus, load_heldout, normalise

from potluck_worker.engines.base import ChatMessage, Generate, Load, Produced
from potluck_worker.engines.llama.engine import LlamaEngine

MODEL = (
    Path(__file__).resolve().parents[1] / "potluck_worker" / "models" / "potluck-starter-Q8_0.gguf"
)


def answers(engine: LlamaEngine, questions: list[str]) -> list[str]:
    """Return the model's own answer to each question, greedy as its file recommends."""
    for number, question in enumerate(questions):
        engine.submit(Generate(str(number), [ChatMessage("user", question)]))
    said = [""] * len(questions)
    while engine.busy:
        for event in engine.step():
            if isinstance(event, Produced):
                said[int(event.request_id)] += event.text
    return said


def nearest_topic(corpus: Corpus, text: str) -> str:
    """Return the topic whose answer is most alike."""
    words = text.split()

    def likeness(known: str) -> float:
        return difflib.SequenceMatcher(None, known.split(), words, autojunk=False).ratio()

    return max(corpus.topics, key=lambda topic: likeness(topic.answer)).id


def main() -> None:
    """Print each miss and the share."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else MODEL
    corpus = Corpus(seed=1)
    known = {normalise(wording) for wording in corpus.wordings()}
    engine = LlamaEngine()
    engine.load(Load(str(path), context_length=2048, slots=4))
    questions = load_heldout()
    right = 0
    texts = answers(engine, [question for question, _ in questions])
    for (question, topic), text in zip(questions, texts, strict=True):
        if normalise(question) in known:
            raise SystemExit(f"not held out: {question}")
        said = nearest_topic(corpus, text)
        right += said == topic
        if said != topic:
            print(f"{question!r}: wanted {topic}, said {said}")
    print(f"{right} of {len(questions)} on the right topic: {right / len(questions):.1%}")


if __name__ == "__main__":
    main()
