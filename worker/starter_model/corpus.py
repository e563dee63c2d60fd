"""The starter model's conversations, expanded from the wordings in `corpus/`.

Each topic has one answer, hand-written questions, and phrases that fill the generic frames below.
Every sample varies its wording: politeness, case, punctuation, small typing mistakes. Questions of
the held-out set never occur, in any case or punctuation.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent

FRAMES = (
    "what is {}", "what are {}", "explain {}", "tell me about {}", "what does {} mean", "{}", "{}?",
    "can you explain {}", "i want to understand {}", "help me understand {}", "describe {}",
    "what's {}", "define {}", "give me a short explanation of {}", "how does {} work",
    "what should i know about {}", "what do i need to know about {}", "i have a question about {}",
    "how about {}", "what about {}", "is {} important", "why does {} matter", "why {}", "how {}",
    "tell me something about {}", "could you tell me more about {}", "anything about {}",
    "i heard about {}, what is it", "{} explained", "info on {}", "do i need {}", "talk about {}",
    "what can you say about {}", "please explain {} to me", "how do i learn about {}",
    "is {} supported", "can i use {}", "does {} work", "does it work with {}", "will {} do",
    "my question is about {}", "{} or not", "is {} good", "is {} enough", "what does {} do",
    "who made {}", "there is a problem with {}", "where is {}", "which {}", "how much {}",
    "how many {}", "how can i get {}", "is {} possible", "is {} required", "are {} any good",
    "what is {} used for", "what is so special about {}", "i do not get {}", "show me {}",
    "i am thinking about {}", "what happens with {}", "what kind of thing is {}", "and {}",
    "i have {}, what now", "i only have {}", "will it run with {}", "is there {}", "are there {}",
    "who built {}", "what to do with {}", "is it about {}", "why do people want {}", "when {}",
    "what if {}", "does potluck have {}", "how good is {}", "where do i find {}", "must i know {}",
    "what speaks for {}", "what can i expect from {}", "can it do {}", "how do you do {}",
)  # fmt: skip
REWORDINGS = (
    (r"\bhow do i\b", ("how can i", "how could i", "how would i", "how should i", "how to",
                       "what is the way to", "is there a way to", "i want to", "tell me how to",
                       "what must i do to", "how does one", "what is the best way to")),
    (r"\bwhat is\b", ("what's", "whats", "what exactly is", "tell me what is", "what would be")),
    (r"\bcan i\b", ("could i", "may i", "is it possible to", "am i able to", "am i allowed to")),
    (r"\bdoes it\b", ("will it", "would it", "does potluck", "does this", "will this")),
    (r"\bshould i\b", ("do i have to", "would you", "am i supposed to", "shall i", "must i")),
    (r"\bdo i need\b", ("must i have", "should i have", "is it necessary to have", "do i require")),
    (r"\bwhy\b", ("how come", "for what reason", "why exactly")),
    (r"\bwhich\b", ("what", "which kind of")),
    (r"\bmodel\b", ("llm", "language model", "ai model", "ai", "network")),
    (r"\bmodels\b", ("llms", "language models", "ai models")),
    (r"\b(computer|pc|machine)\b", ("computer", "pc", "machine", "laptop", "desktop", "box")),
    (r"\b(computers|machines)\b", ("computers", "pcs", "machines", "devices")),
    (r"\brun\b", ("use", "host", "operate", "execute", "work with")),
    (r"\b(gpu|graphics card)\b", ("gpu", "graphics card", "video card", "card")),
    (r"\b(big|large)\b", ("big", "large", "huge")),
    (r"\bgood\b", ("great", "decent", "ok", "suitable", "sensible")),
    (r"\bbest\b", ("right", "ideal", "top", "perfect")),
    (r"\bneed\b", ("require", "want", "have to have")),
    (r"\bdownload\b", ("get", "fetch", "obtain")),
    (r"\banswers?\b", ("reply", "response", "answer", "output")),
    (r"\bchats?\b", ("conversation", "chat", "dialogue")),
    (r"\bstart\b", ("launch", "open", "begin", "boot")),
    (r"\bstop\b", ("end", "halt", "kill", "cancel")),
    (r"\b(choose|pick|select)\b", ("choose", "pick", "select", "take")),
    (r"\bchange\b", ("switch", "swap", "alter")),
    (r"\bmade\b", ("created", "built", "developed", "published", "trained")),
    (r"\blicence\b", ("license",)),
    (r"\b(expensive|slow|secure|private)\b", ("expensive", "slow", "secure", "private", "costly")),
    (r"\bthe\b", ("the", "my", "this", "")),
)  # fmt: skip
OPENINGS = (
    "hey, ", "hi, ", "hello! ", "please, ", "quick question: ", "sorry, ", "so ", "ok, ", "and ",
    "could you tell me, ", "i was wondering, ", "as a beginner, ", "well, ", "one more thing: ",
    "i am new to this. ", "now tell me: ", "question: ", "hmm, ", "by the way, ",
    "can you tell me ", "do you know ", "i would like to know ", "just curious, ",
)  # fmt: skip
ENDINGS = (
    "?", "??", " please", " thanks", " in simple words", " for a beginner", " exactly", "!",
    " please?", ", please", " then?", " actually?", ".", " at home", " here?", " again?",
)  # fmt: skip
CARD_NUMBER = re.compile(r"\d{3,4}|[mM]\d")
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a friendly assistant. Answer briefly.",
    "Answer the question.",
    "You are Potluck's assistant.",
    "Be short and clear.",
    "You help people who run language models at home.",
    "You are a patient teacher.",
)


@dataclass(frozen=True, slots=True)
class Topic:
    """Something the model knows."""

    id: str
    answer: str
    questions: tuple[str, ...]
    phrases: tuple[str, ...] = ()
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its answer."""

    question: str
    answer: str


def normalise(question: str) -> str:
    """Return a question without case, punctuation and repeated spaces."""
    return " ".join(re.sub(r"[^a-z0-9 ]+", " ", question.lower()).split())


def load_heldout() -> list[tuple[str, str]]:
    """Return the held-out questions with the id of the topic that each is about."""
    data = tomllib.loads((HERE / "heldout.toml").read_text())
    return [(question, topic) for topic, questions in data.items() for question in questions]


class Corpus:
    """All topics, and samples of conversations about them.

    Args:
        seed: Equal seeds give equal samples.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._heldout = {normalise(question) for question, _ in load_heldout()}
        self.topics: list[Topic] = []
        for path in sorted((HERE / "corpus").glob("*.toml")):
            data = tomllib.loads(path.read_text())
            for entry in data.get("topic", ()):
                long = entry["id"].startswith("long-")
                self.topics.append(
                    Topic(
                        entry["id"],
                        entry["answer"],
                        tuple(entry["questions"]),
                        tuple(entry["phrases"]),
                        weight=0.6 if long else 1.0,
                    )
                )
            if "templates" in data:
                self._templates: list[str] = data["templates"]
                self._fillers: dict[str, list[str]] = data["fillers"]
                self.topics.append(Topic(data["id"], data["answer"], (), weight=11.0))
        words = tomllib.loads((HERE / "corpus" / "keywords.toml").read_text())
        self._unimportant: list[str] = words["fillers"].split()
        keywords = words["keywords"]
        if unknown := keywords.keys() - {topic.id for topic in self.topics}:
            raise ValueError(f"keywords of unknown topics: {unknown}")
        self.topics = [
            replace(topic, phrases=(*topic.phrases, *keywords.get(topic.id, ())))
            for topic in self.topics
        ]
        self._weights = [topic.weight for topic in self.topics]

    def texts(self) -> list[str]:
        """Return texts for the tokenizer to learn from."""
        questions = [self.question(topic) for topic in self.topics for _ in range(200)]
        return [topic.answer for topic in self.topics] * 20 + questions

    def question(self, topic: Topic) -> str:
        """Return one wording of a question about a topic, never a held-out one."""
        while True:
            question = self._vary(self._plain_question(topic))
            if normalise(question) not in self._heldout:
                return question

    def wordings(self) -> Iterator[str]:
        """Yield every question that can be asked, before it is varied."""
        for topic in self.topics:
            yield from topic.questions
            yield from (frame.format(phrase) for frame in FRAMES for phrase in topic.phrases)

    def conversation(self) -> tuple[str | None, list[Turn]]:
        """Return a system prompt, or none, and one to four turns."""
        system = self._random.choice(SYSTEM_PROMPTS) if self._random.random() < 0.2 else None
        count = self._random.choices((1, 2, 3, 4), (70, 16, 9, 5))[0]
        topics = self._random.choices(self.topics, self._weights, k=count)
        return system, [Turn(self.question(topic), topic.answer) for topic in topics]

    def _plain_question(self, topic: Topic) -> str:
        choose = self._random.choice
        if not topic.questions:
            if self._random.random() < 0.35:
                kind = choose(list(self._fillers))
                return self._among_fillers(choose(self._fillers[kind]))
            return re.sub(
                r"\{(\w+)\}", lambda match: choose(self._fillers[match[1]]), choose(self._templates)
            )
        chance = self._random.random()
        if topic.phrases and chance < 0.4:
            return self._among_fillers(choose(topic.phrases))
        if topic.phrases and chance < 0.65:
            return choose(FRAMES).format(choose(topic.phrases))
        return choose(topic.questions)

    def _among_fillers(self, phrase: str) -> str:
        """Return a phrase with words around it that do not matter."""
        before = self._random.choices(self._unimportant, k=self._random.randrange(6))
        after = self._random.choices(self._unimportant, k=self._random.randrange(4))
        return " ".join((*before, phrase, *after))

    def _vary(self, question: str) -> str:
        """Return a question as different people would type it."""
        chance, choose = self._random.random, self._random.choice
        for pattern, others in REWORDINGS:
            if chance() < 0.35 and re.search(pattern, question):
                question = re.sub(pattern, choose(others), question, count=1)
        words = question.split()
        if len(words) > 4 and chance() < 0.2:
            del words[self._random.randrange(len(words))]
        if chance() < 0.12:
            index = self._random.randrange(len(words))
            words[index] = self._mistype(words[index])
        if chance() < 0.3:
            words = [
                self._renumber(word) if CARD_NUMBER.fullmatch(word) else word for word in words
            ]
        question = " ".join(words)
        if chance() < 0.25:
            question = choose(OPENINGS) + question
        if chance() < 0.6:
            question = question.rstrip("?") + ("?" if chance() < 0.6 else choose(ENDINGS))
        style = chance()
        if style < 0.5:
            question = question[0].upper() + question[1:]
        elif style < 0.55:
            question = question.upper()
        return question

    def _renumber(self, word: str) -> str:
        """Return another number of as many digits, for names such as RTX 3060."""
        return re.sub(r"\d", lambda _: str(self._random.randrange(10)), word)

    def _mistype(self, word: str) -> str:
        if len(word) < 4:
            return word
        at = self._random.randrange(1, len(word) - 1)
        match self._random.randrange(3):
            case 0:
                return word[:at] + word[at + 1 :]
            case 1:
                return word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :]
            case _:
                return word[:at] + word[at] + word[at:]
