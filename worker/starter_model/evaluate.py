"""Ask a model file every held-out question; print the share of answers on the right topic.

`python evaluate.py [FILE]`, with llama-cpp-python installed. An answer is on the topic whose known
answer it is most alike. Questions that training could have seen are refused.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

from corpus import Corpus, load_heldout, normalise
from llama_cpp import Llama

MODEL = (
    Path(__file__).resolve().parents[1]
    / "potluck_worker"
    / "models"
    / "potluck-starter-Q8_0.gguf"
)


def answer(model: Llama, question: str) -> str:
    """Return the model's greedy answer to one question."""
    result = model.create_chat_completion(
        messages=[{"role": "user", "content": question}], temperature=0.0, max_tokens=700
    )
    return str(result["choices"][0]["message"]["content"])


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
    known = {normalise(question) for topic in corpus.topics for question in topic.questions}
    model = Llama(str(path), n_ctx=2048, verbose=False)
    questions = load_heldout()
    right = 0
    for question, topic in questions:
        if normalise(question) in known:
            raise SystemExit(f"not held out: {question}")
        said = nearest_topic(corpus, answer(model, question))
        right += said == topic
        if said != topic:
            print(f"{question!r}: wanted {topic}, said {said}")
    print(f"{right} of {len(questions)} on the right topic: {right / len(questions):.1%}")


if __name__ == "__main__":
    main()
