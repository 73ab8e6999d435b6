"""What leaves the server, and in how many writes."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvicorn

from crossrank.serving.one_write import OneWriteProtocol

BIG = b"x" * 5_000_000
GET = b"GET /%s HTTP/1.1\r\nhost: x\r\n\r\n"


async def app(scope, receive, send):
    """Answers `/big` with a large body, `/slow` in two parts that are apart, and anything else with `ok`."""
    if scope["type"] != "http":
        return
    body = BIG if scope["path"] == "/big" else b"ok"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    if scope["path"] == "/slow":
        await send({"type": "http.response.body", "body": b"o", "more_body": True})
        await asyncio.sleep(0.05)
        body = b"k"
    await send({"type": "http.response.body", "body": body})


def talk(*sent: bytes) -> list[bytes]:
    """Return what the server writes for what a client sends, one entry a write."""

    async def run() -> list[bytes]:
        writes: list[bytes] = []

        class Recorded(OneWriteProtocol):
            def connection_made(self, transport):
                super().connection_made(transport)
                write = transport.write
                self.transport._transport = Spy(transport, lambda data: (writes.append(data), write(data)))

        config = uvicorn.Config(app, http=Recorded, log_config=None, access_log=False)
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        for data in sent:
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.split(b"content-length: ")[1].split()[0]))
        writer.close()
        server.should_exit = True
        await serving
        return writes

    return asyncio.run(run())


class Spy:
    def __init__(self, transport, write):
        self._transport, self.write = transport, write

    def __getattr__(self, name):
        return getattr(self._transport, name)


def test_head_and_body_are_one_write():
    first, second = talk(GET % b"", GET % b"again")
    for written in (first, second):
        assert written.startswith(b"HTTP/1.1 200 OK\r\n")
        assert written.endswith(b"\r\n\r\nok")


def test_parts_that_come_later_do_not_hold_back_what_is_there():
    first, second = talk(GET % b"slow")
    assert first.endswith(b"\r\n\r\no")
    assert second == b"k"


def test_a_large_body_arrives_whole():
    (written,) = talk(GET % b"big")
    assert written.endswith(BIG)


@pytest.mark.parametrize("path", [b"", b"big"])
def test_the_answer_comes_before_the_connection_is_closed(path):
    (written,) = talk(b"GET /%s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % path)
    assert b"connection: close" in written
