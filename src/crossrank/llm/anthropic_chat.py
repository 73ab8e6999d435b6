"""Anthropic's messages."""

from __future__ import annotations

import os
from typing import Any

from crossrank.errors import ChatError, InputError, MissingExtra
from crossrank.llm.chat import Completion, Messages, Schema, StopReason
from crossrank.llm.sdk import MAX_RETRIES, TIMEOUT_S, chat_error, host_of, read_key

KEY = "ANTHROPIC_API_KEY"
BASE_URL = "ANTHROPIC_BASE_URL"
_DEFAULT_ADDRESS = "https://api.anthropic.com"
_STOPS: dict[str | None, StopReason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}


class AnthropicChat:
    """A model behind Anthropic's messages, over the `anthropic` SDK with its timeouts and its retries with backoff.

    The key is `ANTHROPIC_API_KEY` of the environment. The API has no temperature.

    Args:
        model: As in `claude-haiku-4-5`.
        base_url: Of another server; `ANTHROPIC_BASE_URL` of the environment, or Anthropic.
        timeout_s: Most seconds that the server may stay silent.
        max_retries: Most repetitions after a timeout, a broken connection, 408, 409, 429 or 5xx.

    Raises:
        InputError: If there is no key, or the address is none.
        MissingExtra: If the SDK is not installed.
    """

    def __init__(
        self, model: str, *, base_url: str | None = None, timeout_s: float = TIMEOUT_S, max_retries: int = MAX_RETRIES
    ) -> None:
        try:
            import anthropic
        except ImportError:
            raise MissingExtra("Anthropic's messages", extra="anthropic") from None
        key = read_key(KEY)
        if not key:
            raise InputError(f"no key: set {KEY} in the environment")
        base_url = base_url or os.environ.get(BASE_URL) or _DEFAULT_ADDRESS
        self.name = f"anthropic/{model}"
        self.address = host_of(base_url)
        self._sdk: Any = anthropic
        self._model = model
        self._secrets = [key]
        self._client = anthropic.Anthropic(api_key=key, base_url=base_url, timeout=timeout_s, max_retries=max_retries)
        self._takes_schema = True

    def complete(self, messages: Messages, *, schema: Schema, max_tokens: int) -> Completion:
        """Return the answer, held to the schema where the model can.

        Raises:
            ChatError: If there is no answer, after all retries.
        """
        with_schema = self._takes_schema
        answer = self._try(messages, schema if with_schema else None, max_tokens)
        if with_schema and getattr(answer, "status_code", None) == 400 and "output_config" in str(answer):
            self._takes_schema = False
            answer = self._try(messages, None, max_tokens)
        if isinstance(answer, Completion):
            return answer
        # Raised here, not in an except block: no request with its headers hangs on it.
        raise chat_error(answer, self._sdk, model=self.name, secrets=self._secrets)

    def _try(self, messages: Messages, schema: Schema | None, max_tokens: int) -> Completion | Exception:
        system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
        settings: dict[str, Any] = {"system": system} if system else {}
        if schema is not None:
            settings["output_config"] = {"format": {"type": "json_schema", "schema": dict(schema)}}
        try:
            raw = self._client.messages.with_raw_response.create(
                model=self._model,
                max_tokens=max_tokens,
                messages=[dict(message) for message in messages if message["role"] != "system"],  # type: ignore[misc]
                **settings,
            )
            return _completion(raw.parse(), raw.retries_taken)
        except self._sdk.APIError as error:
            failure: Exception = error.with_traceback(None)
            return failure
        except (ValueError, AttributeError, IndexError, TypeError):
            pass
        raise ChatError(f"{self.name}: the server's answer is no message", kind="answer")


def _completion(message: Any, retries: int) -> Completion:
    text = "".join(block.text for block in message.content if block.type == "text")
    stop = _STOPS.get(message.stop_reason, "end")
    return Completion(text, message.usage.input_tokens, message.usage.output_tokens, stop, retries)
