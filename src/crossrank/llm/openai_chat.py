"""Any server that speaks OpenAI's chat protocol: OpenAI, vLLM, SGLang, Ollama, NIM, OpenRouter, Gemini, ..."""

from __future__ import annotations

import os
from typing import Any

from crossrank.errors import ChatError, InputError, MissingExtra
from crossrank.llm.chat import Completion, Messages, Schema, StopReason
from crossrank.llm.sdk import MAX_RETRIES, TIMEOUT_S, chat_error, host_of, read_key

KEY = "OPENAI_API_KEY"
BASE_URL = "OPENAI_BASE_URL"
_DEFAULT_ADDRESS = "https://api.openai.com/v1"
_FILTERED = ("content_filter", "content_policy_violation", "invalid_prompt")
# Settings that some servers or models refuse; each is left out, or renamed, once a server has said so.
_RENAMED = {"max_tokens": "max_completion_tokens"}
_OPTIONAL = ("temperature", "response_format", "max_tokens", "max_completion_tokens")


class OpenAIChat:
    """A model behind OpenAI's chat completions, over the `openai` SDK with its timeouts and its retries with backoff.

    The key is `OPENAI_API_KEY` of the environment; a server of one's own may need none.

    Args:
        model: As the server calls it.
        base_url: Of the server, as in `http://localhost:8000/v1`; `OPENAI_BASE_URL` of the environment, or OpenAI.
        timeout_s: Most seconds that the server may stay silent.
        max_retries: Most repetitions after a timeout, a broken connection, 408, 409, 429 or 5xx.

    Raises:
        InputError: If there is no key for OpenAI itself, or the address is none.
        MissingExtra: If the SDK is not installed.
    """

    def __init__(
        self, model: str, *, base_url: str | None = None, timeout_s: float = TIMEOUT_S, max_retries: int = MAX_RETRIES
    ) -> None:
        try:
            import openai
        except ImportError:
            raise MissingExtra("OpenAI's chat protocol", extra="llm") from None
        key = read_key(KEY)
        base_url = base_url or os.environ.get(BASE_URL) or None
        if not key and not base_url:
            raise InputError(f"no key: set {KEY} in the environment, or name a server of your own (base_url)")
        self.name = f"openai/{model}"
        self.address = host_of(base_url or _DEFAULT_ADDRESS)
        self._sdk: Any = openai
        self._model = model
        self._secrets = [key] if key else []
        self._client = openai.OpenAI(
            api_key=key or "none", base_url=base_url, timeout=timeout_s, max_retries=max_retries
        )
        self._settings = {"temperature", "response_format", "max_tokens"}

    def complete(self, messages: Messages, *, schema: Schema, max_tokens: int) -> Completion:
        """Return the answer at temperature 0, held to the schema where the server can.

        Raises:
            ChatError: If there is no answer, after all retries.
        """
        offered: dict[str, Any] = {
            "temperature": 0,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": dict(schema)},
            },
            "max_tokens": max_tokens,
            "max_completion_tokens": max_tokens,
        }
        while True:
            sent = set(self._settings)
            failure = self._try(messages, {name: offered[name] for name in sent})
            if isinstance(failure, Completion):
                return failure
            refused = self._refused_setting(failure, sent)
            if refused is None:
                # Raised here, not in an except block: no request with its headers hangs on it.
                raise chat_error(failure, self._sdk, model=self.name, secrets=self._secrets)
            self._settings = (sent - {refused}) | ({_RENAMED[refused]} if refused in _RENAMED else set())

    def _try(self, messages: Messages, settings: dict[str, Any]) -> Completion | Exception:
        create: Any = self._client.chat.completions.with_raw_response.create
        try:
            raw = create(model=self._model, messages=[dict(message) for message in messages], **settings)
            return _completion(raw.parse(), raw.retries_taken)
        except self._sdk.APIError as error:
            if getattr(error, "code", None) in _FILTERED:
                return Completion("", 0, 0, "refusal")
            failure: Exception = error.with_traceback(None)
            return failure
        except (ValueError, AttributeError, IndexError, TypeError):
            pass
        raise ChatError(f"{self.name}: the server's answer is no chat completion", kind="answer")

    def _refused_setting(self, error: Exception, sent: set[str]) -> str | None:
        """Return the setting that a server does not take, by the parameter that the error names or speaks of."""
        if getattr(error, "status_code", None) not in (400, 422):
            return None
        said = f"{getattr(error, 'param', '')} {getattr(error, 'message', '')}"
        return next((name for name in _OPTIONAL if name in sent and name in said), None)


def _completion(response: Any, retries: int) -> Completion:
    choice = response.choices[0]
    refused = getattr(choice.message, "refusal", None) or choice.finish_reason == "content_filter"
    stop: StopReason = "refusal" if refused else "length" if choice.finish_reason == "length" else "end"
    usage = response.usage
    return Completion(
        choice.message.content or "",
        usage.prompt_tokens if usage else None,
        usage.completion_tokens if usage else None,
        stop,
        retries,
    )
