"""A chat server on loopback that answers by a script: a real HTTP server that speaks OpenAI's and Anthropic's protocol.

    with ScriptedChatServer() as server:
        server.script += [rate_limited(retry_after_s=0.05), server_error(), answer("not JSON"), slow(0.5, "late")]
        server.otherwise = lambda request: '{"grade": 2}'
        OpenAIChat("any-model", base_url=server.base_url)

Each request takes the next reply of `script`; when that is empty, `otherwise` answers: it gets the parsed request and
returns a text or a `Reply`. `server.requests` has every request, in the order in which they came.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What the server does with one request.

    Attributes:
        text: The answer of the model, where `status` is 200.
        status: Of HTTP.
        finish_reason: In OpenAI's words: `stop`, `length`, `content_filter`.
        refusal: OpenAI's field for a refusal in words.
        headers: Sent besides the usual ones.
        delay_s: Before anything is sent.
        body: Sent as it is, in place of a chat completion or an error.
        usage: Whether tokens are counted; a word is one.
    """

    text: str = ""
    status: int = 200
    finish_reason: str = "stop"
    refusal: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    body: str | None = None
    usage: bool = True


def answer(text: str, **settings: Any) -> Reply:
    """The model says something: well formed, or malformed JSON."""
    return Reply(text, **settings)


def cut_off(text: str) -> Reply:
    """The answer ends in its middle, at the limit of tokens."""
    return Reply(text, finish_reason="length")


def refusal(text: str = "I'm sorry, but I can't help with that.") -> Reply:
    """The model refuses in words."""
    return Reply(text)


def filtered() -> Reply:
    """The content filter cuts the answer."""
    return Reply("", finish_reason="content_filter")


def rate_limited(retry_after_s: float = 0.05) -> Reply:
    """429 with Retry-After."""
    return failure(429, "Rate limit reached", headers={"Retry-After": str(retry_after_s)})


def server_error(status: int = 500) -> Reply:
    """500; the header keeps retries of a test short."""
    return failure(status, "The server had an error", headers={"Retry-After": "0.05"})


def failure(status: int, message: str, *, headers: Mapping[str, str] | None = None, **fields: str) -> Reply:
    """An error in the form of the protocol; `code` and `param` may be given."""
    error = {"message": message, "type": "error", "code": None, "param": None} | fields
    return Reply(status=status, headers=headers or {}, body=json.dumps({"type": "error", "error": error}))


def slow(delay_s: float, text: str = "") -> Reply:
    """An answer that takes its time."""
    return Reply(text, delay_s=delay_s)


def broken_body(body: str = "<html>It works!</html>") -> Reply:
    """200, and no chat completion in it."""
    return Reply(body=body)


def prompt_of(request: Mapping[str, Any]) -> str:
    """Return all text of a parsed request."""
    return "\n".join(message["content"] for message in request["messages"])


class ScriptedChatServer:
    """The server; a context manager that listens on a free port of loopback.

    Attributes:
        script: Replies for the next requests.
        otherwise: Answers when the script is empty.
        requests: The parsed bodies so far.
        headers: Of the same requests.
        most_at_once: Most requests that were open at the same time.
    """

    def __init__(self, otherwise: Callable[[dict[str, Any]], str | Reply] = lambda request: "{}") -> None:
        self.script: deque[Reply] = deque()
        self.otherwise = otherwise
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        self._open = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def base_url(self) -> str:
        """For OpenAI's protocol; Anthropic's takes `address`."""
        return f"{self.address}/v1"

    def __enter__(self) -> ScriptedChatServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _reply(self, request: dict[str, Any], headers: dict[str, str]) -> Reply:
        with self._lock:
            self.requests.append(request)
            self.headers.append(headers)
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)
            scripted = self.script.popleft() if self.script else None
        reply = scripted or self.otherwise(request)
        return replace(Reply(), text=reply) if isinstance(reply, str) else reply

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet a reply: two would wait for each other on loopback

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                reply = server._reply(request, dict(self.headers))
                time.sleep(reply.delay_s)
                with server._lock:
                    server._open -= 1
                write = _message if self.path.endswith("/messages") else _chat_completion
                body = (write(request, reply) if reply.body is None else reply.body).encode()
                try:
                    self.send_response(reply.status)
                    kind = "application/json" if body.startswith(b"{") else "text/html"
                    headers = {"Content-Type": kind, "Content-Length": str(len(body))} | dict(reply.headers)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the client has given up waiting

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        return Handler


def _chat_completion(request: Mapping[str, Any], reply: Reply) -> str:
    message = {"role": "assistant", "content": reply.text, "refusal": reply.refusal}
    read, written = len(prompt_of(request).split()), len(reply.text.split())
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason, "logprobs": None}
    completion = {"id": "c", "object": "chat.completion", "created": 0, "model": request["model"], "choices": [choice]}
    return json.dumps(completion | ({"usage": usage} if reply.usage else {}))


def _message(request: Mapping[str, Any], reply: Reply) -> str:
    stops = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
    read = len(prompt_of(request).split()) + len(request.get("system", "").split())
    return json.dumps(
        {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": request["model"],
            "content": [{"type": "text", "text": reply.text}] if reply.text else [],
            "stop_reason": stops[reply.finish_reason],
            "stop_sequence": None,
            "usage": {"input_tokens": read, "output_tokens": len(reply.text.split())},
        }
    )
