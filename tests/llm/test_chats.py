"""Both SDKs against a real HTTP server on loopback that misbehaves on request."""

from __future__ import annotations

import time
import traceback

import pytest

from chat_server import answer, broken_body, cut_off, failure, filtered, rate_limited, server_error, slow
from crossrank.errors import ChatError, InputError
from crossrank.llm.anthropic_chat import AnthropicChat
from crossrank.llm.openai_chat import OpenAIChat
from crossrank.llm.opening import open_chat

KEY = "sk-secret-0123456789"
MESSAGES = [{"role": "system", "content": "You rank."}, {"role": "user", "content": "Rank these two"}]
SCHEMA = {"type": "object", "properties": {"ranking": {"type": "array"}}}


@pytest.fixture(params=["openai", "anthropic"])
def make(request, server):
    """Make a chat of either provider on the server."""

    def make(**options):
        if request.param == "openai":
            return OpenAIChat("tiny", base_url=server.base_url, **options)
        return AnthropicChat("tiny", base_url=server.address, **options)

    return make


def complete(chat):
    return chat.complete(MESSAGES, schema=SCHEMA, max_tokens=50)


def test_text_and_tokens(make, server):
    server.script.append(answer('{"ranking": [2, 1]}'))
    completion = complete(make())
    assert completion.text == '{"ranking": [2, 1]}'
    assert (completion.input_tokens, completion.output_tokens) == (5, 3)
    assert (completion.stop, completion.retries) == ("end", 0)


def test_failures_that_pass_are_waited_out(make, server):
    server.script += [rate_limited(0.2), server_error(500), server_error(503), answer("done")]
    begin = time.monotonic()
    completion = complete(make())
    assert (completion.text, completion.retries) == ("done", 3)
    assert time.monotonic() - begin >= 0.3, "Retry-After was not kept"


def test_failures_that_stay_are_named(make, server):
    server.otherwise = lambda request: server_error(500)
    with pytest.raises(ChatError, match="had an error") as raised:
        complete(make(max_retries=2))
    assert raised.value.kind == "server" and len(server.requests) == 3
    server.otherwise = lambda request: rate_limited(0.01)
    with pytest.raises(ChatError) as raised:
        complete(make(max_retries=1))
    assert raised.value.kind == "rate limit"


def test_a_slow_server_times_out_and_is_asked_again(make, server):
    server.script += [slow(2.0, "late"), answer("in time")]
    completion = complete(make(timeout_s=0.4))
    assert (completion.text, completion.retries) == ("in time", 1)
    server.script += [slow(1.0)]
    with pytest.raises(ChatError, match="no answer in time") as raised:
        complete(make(timeout_s=0.2, max_retries=0))
    assert raised.value.kind == "timeout"


def test_a_server_that_is_not_there(server):
    with pytest.raises(ChatError, match="cannot be reached") as raised:
        complete(OpenAIChat("tiny", base_url="http://127.0.0.1:9/v1", max_retries=0))
    assert raised.value.kind == "connection"


def test_why_an_answer_ended(make, server):
    server.script += [cut_off('{"ranking": [2'), filtered()]
    assert [complete(make()).stop for _ in range(2)] == ["length", "refusal"]


@pytest.mark.parametrize("body", ["<html>It works!</html>", "{}", '{"choices": []}', "{", ""])
def test_a_body_that_is_no_completion(make, server, body):
    server.otherwise = lambda request: broken_body(body)
    with pytest.raises(ChatError) as raised:
        complete(make(max_retries=0))
    assert raised.value.kind == "answer"


def test_a_prompt_that_is_too_long(make, server):
    server.script.append(failure(400, "This model's maximum context length is 8192 tokens"))
    with pytest.raises(ChatError) as raised:
        complete(make())
    assert raised.value.kind == "overflow"


def test_a_refused_key_and_a_server_that_repeats_it_show_no_key(make, server):
    server.script += [failure(401, f"Incorrect API key provided: {KEY}"), failure(404, f"no model for {KEY}")]
    for kind in ("key", "request"):
        with pytest.raises(ChatError) as raised:
            complete(make())
        assert raised.value.kind == kind
        assert KEY not in "".join(traceback.format_exception(raised.value))
    assert KEY in str(server.headers), "the key did not reach the server: this test shows nothing"


def test_logs_of_the_sdk_show_no_key(make, server, caplog):
    caplog.set_level("DEBUG")
    server.script += [server_error(), answer("fine")]
    complete(make())
    assert caplog.records and KEY not in caplog.text
    assert KEY not in repr(make()) and KEY not in str(make())


def test_openai_settings_that_a_model_refuses_are_left_out_from_then_on(server):
    server.script += [
        failure(400, "Unsupported value: 'temperature' does not support 0", param="temperature"),
        failure(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", param="max_tokens"),
        failure(400, "response_format json_schema is not supported", code="bad"),
        answer("fine"),
        answer("again"),
    ]
    chat = OpenAIChat("tiny", base_url=server.base_url)
    assert complete(chat).text == "fine" and complete(chat).text == "again"
    first, *_, last = server.requests
    assert first["temperature"] == 0 and first["response_format"]["json_schema"]["schema"] == SCHEMA
    assert {*last} == {"model", "messages", "max_completion_tokens"} and last["max_completion_tokens"] == 50


def test_a_bad_request_for_another_reason_is_not_repeated(make, server):
    server.otherwise = lambda request: failure(400, "tiny cannot do that")
    with pytest.raises(ChatError, match="tiny cannot do that") as raised:
        complete(make())
    assert raised.value.kind == "request" and len(server.requests) == 1


def test_anthropic_without_structured_output(server):
    server.script += [failure(400, "output_config: Extra inputs are not permitted"), answer("fine")]
    chat = AnthropicChat("tiny", base_url=server.address)
    assert complete(chat).text == "fine"
    assert "output_config" in server.requests[0] and "output_config" not in server.requests[1]
    assert server.requests[1]["system"] == "You rank." and len(server.requests[1]["messages"]) == 1


def test_keys_come_from_the_environment(server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(InputError, match="set OPENAI_API_KEY"):
        open_chat("openai/tiny")
    with pytest.raises(InputError, match="set ANTHROPIC_API_KEY"):
        open_chat("anthropic/tiny")
    server.script.append(answer("fine"))
    assert complete(open_chat("openai/tiny", base_url=server.base_url)).text == "fine", "a local server needs no key"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret €\nx")
    with pytest.raises(InputError) as raised:
        open_chat("openai/tiny")
    assert "secret" not in str(raised.value)


def test_names_and_addresses(server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:pa55@example.org:8000/v1/")
    chat = open_chat("openai/org/model")
    assert (chat.name, chat.address) == ("openai/org/model", "http://example.org:8000/v1")
    for name in ("tiny", "openai/", "mistral/tiny", ""):
        with pytest.raises(InputError, match="openai/MODEL, anthropic/MODEL"):
            open_chat(name)
    for address in ("localhost:8000", "ftp://x", "http://", "http://x:port"):
        with pytest.raises(InputError, match="must start with http"):
            open_chat("openai/tiny", base_url=address)
