"""One question to a language model, until its answer can be read: shortened where it is too long, asked again once."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from crossrank.errors import ChatError, InputError
from crossrank.llm.answers import Repaired
from crossrank.llm.chat import Completion
from crossrank.llm.client import ChatClient, Meter
from crossrank.llm.prompts import PassageWriter, Prompt, reminded
from crossrank.llm.tokens import FindTokens, estimate_tokens

Value = TypeVar("Value")

# Below this a passage says nothing any more.
_FEWEST_TOKENS = 16
# What a server says of one request, and how many items in a row may meet it before it is the server that is meant.
_OF_ONE_REQUEST = ("request", "answer", "overflow")
_MOST_REFUSED_IN_A_ROW = 3
# Decides only how an answer that cannot be read is called in the result; refusals in other languages are "unreadable".
_REFUSAL = re.compile(r"\b(sorry|as an ai|unable to|not able to|cannot|can['’]t|won['’]t|decline)\b", re.IGNORECASE)


class Forgiveness:
    """Leaves out what a server will not answer, as a prompt that it takes for unsafe, but not one item after another.

    For long work on many items, in many threads: one of them must not end it each time that it is begun again.

    Args:
        meter: Takes the reasons.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._lock = threading.Lock()
        self._in_a_row = 0

    def attempt(self, ask: Callable[[], Value], otherwise: Value, *, subject: str) -> Value:
        """Return the answer, or `otherwise` where the server refuses this request alone.

        Raises:
            ChatError: If it cannot be asked at all (key, network, rate limit, time), or has refused several in a row.
        """
        try:
            found = ask()
        except ChatError as error:
            with self._lock:
                self._in_a_row += 1
                is_last = self._in_a_row >= _MOST_REFUSED_IN_A_ROW
            if error.kind not in _OF_ONE_REQUEST or is_last:
                raise
            self._meter.fail(f"{subject}: {error}")
            return otherwise
        with self._lock:
            self._in_a_row = 0
        return found


@dataclass(frozen=True)
class Asker:
    """Asks questions about passages.

    Attributes:
        client: The language model.
        max_passage_tokens: Most tokens of a passage, at least 16.
        find_tokens: Where the tokens of a text are: exact with `tokens_of(tokenizer)`, estimated by default.

    Raises:
        InputError: If `max_passage_tokens` is below 16.
    """

    client: ChatClient
    max_passage_tokens: int = 512
    find_tokens: FindTokens = estimate_tokens

    def __post_init__(self) -> None:
        if self.max_passage_tokens < _FEWEST_TOKENS:
            raise InputError(f"max_passage_tokens must be at least {_FEWEST_TOKENS}, not {self.max_passage_tokens}")

    def writer(self) -> PassageWriter:
        """Return what writes passages of the full length."""
        return PassageWriter(self.max_passage_tokens, self.find_tokens)

    def ask(
        self,
        build: Callable[[PassageWriter], Prompt],
        read: Callable[[str], Repaired[Value] | None],
        meter: Meter,
        *,
        subject: str,
    ) -> Value | None:
        """Return what the answer says, or None where it cannot be read, also when asked again.

        Args:
            build: The question.
            read: The answer to a value.
            meter: Takes the calls, the repairs, and the failure where there is no value.
            subject: What the question is about, for the failure.

        Raises:
            ChatError: If the server gives no answer.
        """
        prompt, completion = self._ask_within_limits(build, meter)
        found = read(completion.text) if completion.stop != "refusal" else None
        if found is None:
            meter.repair(_fault(completion))
            # An answer that was cut off needs room, whatever else it needs.
            room = self.client.max_answer_tokens * (2 if completion.stop == "length" else 1)
            prompt = reminded(prompt)
            completion = self.client.ask(prompt.messages, meter, schema=prompt.schema, max_tokens=room)
            found = read(completion.text) if completion.stop != "refusal" else None
        if found is None:
            meter.repair(_fault(completion))
            meter.fail(f"{subject}: {_DESCRIPTIONS[_fault(completion)]}")
            return None
        for kind, times in found.faults.items():
            meter.repair(kind, times)
        if completion.stop == "length":
            meter.repair("cut off")
        return found.value

    def _ask_within_limits(self, build: Callable[[PassageWriter], Prompt], meter: Meter) -> tuple[Prompt, Completion]:
        """Ask; where the model cannot read as much, with passages of half the length, as often as needed."""
        limit = self.max_passage_tokens
        while True:
            prompt = build(PassageWriter(limit, self.find_tokens))
            try:
                return prompt, self.client.ask(prompt.messages, meter, schema=prompt.schema)
            except ChatError as error:
                if error.kind != "overflow" or limit // 2 < _FEWEST_TOKENS:
                    raise
            limit //= 2
            meter.repair("shortened")


_DESCRIPTIONS = {
    "refusal": "the model refused to answer",
    "cut off": "the answer was cut off before it said anything",
    "empty": "the answer was empty",
    "unreadable": "the answer could not be read",
}


def _fault(completion: Completion) -> str:
    if completion.stop == "length":
        return "cut off"
    if completion.stop == "refusal" or _REFUSAL.search(completion.text):
        return "refusal"
    return "unreadable" if completion.text.strip() else "empty"
