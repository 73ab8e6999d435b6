"""The options of commands that ask a language model, and what is told about its calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossrank.cli.exits import INTERRUPTED
from crossrank.cli.terminal import note
from crossrank.errors import ChatError, InputError

if TYPE_CHECKING:
    from crossrank.llm.asking import Asker
    from crossrank.llm.client import ChatClient, Prices
    from crossrank.types import Usage

_CHAT = "Language model"

BaseUrlOption = Annotated[
    str | None,
    typer.Option(
        help="Server that speaks OpenAI's protocol, as in http://localhost:8000/v1; OPENAI_BASE_URL if left out.",
        rich_help_panel=_CHAT,
    ),
]
PriceOption = Annotated[
    str | None,
    typer.Option(
        metavar="IN,OUT",
        help="US dollars for a million tokens read and written, as in 0.15,0.60; without it tokens alone are counted.",
        rich_help_panel=_CHAT,
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        "--cache", dir_okay=False, help="File of paid answers; in ~/.cache if left out.", rich_help_panel=_CHAT
    ),
]
ConcurrencyOption = Annotated[int, typer.Option(min=1, help="Most calls at a time.", rich_help_panel=_CHAT)]
PerMinuteOption = Annotated[
    int | None, typer.Option(min=1, help="Most calls a minute; no limit if left out.", rich_help_panel=_CHAT)
]
PassageTokensOption = Annotated[
    int, typer.Option(min=16, help="Most tokens of a document that it reads.", rich_help_panel=_CHAT)
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what it will take, and stop.")]


@dataclass(frozen=True)
class ChatOptions:
    """Which language model, and how it is asked."""

    model: str
    base_url: str | None = None
    price: str | None = None
    cache: Path | None = None
    concurrency: int = 8
    per_minute: int | None = None
    passage_tokens: int = 512

    def open(self) -> ChatClient:
        """Return the client; nothing is sent yet.

        Raises:
            InputError: If the model or the price cannot be, or there is no key.
            MissingExtra: If the SDK is not installed.
            DataError: If the cache cannot be opened.
        """
        from crossrank.llm.answer_cache import AnswerCache
        from crossrank.llm.client import ChatClient
        from crossrank.llm.opening import open_chat

        chat, prices = open_chat(self.model, base_url=self.base_url), read_prices(self.price)
        cache = AnswerCache(self.cache or default_cache())
        return ChatClient(chat, prices=prices, cache=cache, concurrency=self.concurrency, per_minute=self.per_minute)

    def asker(self) -> Asker:
        """Return the client with what it is shown of a passage.

        Raises:
            RerankError: As `open` does.
        """
        from crossrank.llm.asking import Asker

        return Asker(self.open(), self.passage_tokens)


def default_cache() -> Path:
    """Return the file that answers are kept in where nobody says."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "crossrank" / "llm" / "answers.sqlite"


def read_prices(text: str | None) -> Prices | None:
    """Return prices from `IN,OUT`.

    Raises:
        InputError: If these are not two numbers of at least 0.
    """
    from crossrank.llm.client import Prices

    if text is None:
        return None
    try:
        read, written = (float(part) for part in text.split(","))
    except ValueError:
        read = written = -1.0
    if not (0 <= read < float("inf") and 0 <= written < float("inf")):
        raise InputError(f"--price takes two numbers with a comma, as in 0.15,0.60, not {text!r}")
    return Prices(read, written)


def describe_usage(usage: Usage) -> str:
    """Return what calls took, in a line."""
    parts = [f"{usage.calls} call(s)"]
    if usage.cached_calls:
        parts.append(f"{usage.cached_calls} from the cache")
    parts.append(f"{usage.input_tokens} input and {usage.output_tokens} output tokens")
    if usage.cost_usd is not None:
        parts.append(f"${usage.cost_usd:.4f}")
    return ", ".join(parts)


@contextmanager
def telling_what_is_kept(chat: ChatOptions, usage: Callable[[], Usage]) -> Iterator[None]:
    """Say how far it came where the server gives no answer, or Ctrl-C ends it: the cache has all that was paid for.

    Raises:
        ChatError: As the block does, with that in its message.
        Exit: With code 130, if interrupted.
    """
    try:
        yield
    except (ChatError, KeyboardInterrupt) as error:
        kept = f"{describe_usage(usage())} so far, kept in {chat.cache or default_cache()}"
        advice = f"({kept}: give the same command again to go on)"
        if isinstance(error, ChatError):
            raise ChatError(f"{error} {advice}", kind=error.kind) from None
        note(f"interrupted {advice}")
        raise typer.Exit(INTERRUPTED) from None


def note_estimate(usage: Usage) -> None:
    """Say what the calls will take, without what the cache spares."""
    note(f"estimated without the cache: {describe_usage(usage)}")
