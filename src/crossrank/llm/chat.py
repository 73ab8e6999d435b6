"""The one socket for language models: messages in, an answer out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Messages = Sequence[Mapping[str, str]]
Schema = Mapping[str, Any]
StopReason = Literal["end", "length", "refusal"]


@dataclass(frozen=True)
class Completion:
    """The answer of a language model.

    Attributes:
        text: As it came, reasoning and all.
        input_tokens: That the server counted; None where it does not say.
        output_tokens: The same of the answer.
        stop: Why it ends: `"length"` is cut off, `"refusal"` stands for content filters too.
        retries: Requests that were sent again before this answer came.
    """

    text: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    stop: StopReason = "end"
    retries: int = 0


class ChatModel(Protocol):
    """A language model behind a server, or anything that acts like one.

    Attributes:
        name: For results and tables, as in `"openai/gpt-5-mini"`.
        address: Where it is asked, without credentials: the same name elsewhere is another model to the cache.
    """

    name: str
    address: str

    def complete(self, messages: Messages, *, schema: Schema, max_tokens: int) -> Completion:
        """Return the answer to a conversation; called from several threads at once.

        Args:
            messages: Each with a `role` (`"system"`, `"user"`, `"assistant"`) and a `content`.
            schema: The JSON schema of the answer, for servers that can hold to one. No answer is trusted to.
            max_tokens: Most tokens of the answer.

        Raises:
            ChatError: If there is no answer, after all retries.
        """
        ...


ChatFunction = Callable[[list[dict[str, str]]], str | Completion]


class CallableChat:
    """Any function from messages to a text: another library's client, a local model, a test.

    Timeouts and retries are the function's own. What it raises ends the ranking, except a `ChatError`.
    """

    address = ""

    def __init__(self, function: ChatFunction, *, name: str | None = None) -> None:
        self._function = function
        self.name = name or getattr(function, "__qualname__", type(function).__name__)

    def complete(self, messages: Messages, *, schema: Schema, max_tokens: int) -> Completion:
        """Return what the function returns; it is not told the schema and the limit."""
        answer = self._function([dict(message) for message in messages])
        return answer if isinstance(answer, Completion) else Completion(answer)
