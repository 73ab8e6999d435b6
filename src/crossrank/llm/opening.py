"""Which chat model a name stands for: `openai/MODEL`, `anthropic/MODEL`."""

from __future__ import annotations

from crossrank.errors import InputError
from crossrank.llm.chat import ChatModel

PROVIDERS = ("openai/MODEL", "anthropic/MODEL")


def open_chat(name: str, *, base_url: str | None = None) -> ChatModel:
    """Return the chat model that a user named; nothing is sent yet.

    Args:
        name: One of `PROVIDERS`. `openai` is the protocol: with `base_url` any server that speaks it.
        base_url: Of the server; that of the provider, or of the environment, if None.

    Raises:
        InputError: If the name stands for none, or the environment holds no key.
        MissingExtra: If the provider's SDK is not installed.
    """
    provider, _, model = name.partition("/")
    match provider, bool(model):
        case "openai", True:
            from crossrank.llm.openai_chat import OpenAIChat

            return OpenAIChat(model, base_url=base_url)
        case "anthropic", True:
            from crossrank.llm.anthropic_chat import AnthropicChat

            return AnthropicChat(model, base_url=base_url)
    raise InputError(f"a language model is one of {', '.join(PROVIDERS)}, not {name!r}")
