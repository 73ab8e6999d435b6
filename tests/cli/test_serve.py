"""`crossrank serve` as a process: the rules for binding, the stop that answers what was taken in, several workers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

MAIN = "from crossrank.cli.main import app; app(prog_name='crossrank')"
LONG = {"query": "red planet", "documents": ["Mars is called the red planet because of iron oxide. " * 40] * 40}


class Process:
    """A server in a process of its own, with its log."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-c", MAIN, "serve", "--port", "0", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.log: list[dict] = []
        self._serving = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        assert self._serving.wait(90), self.log
        url = next(entry["url"] for entry in self.log if entry["message"] == "serving")
        self.client = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def _read(self) -> None:
        for line in self.process.stderr:
            self.log.append(json.loads(line))
            if self.log[-1]["message"] == "serving":
                self._serving.set()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def run():
    started = []

    def run(*options: str) -> Process:
        started.append(Process(*options))
        return started[-1]

    yield run
    for server in started:
        server.process.kill()
        server.process.wait()


def test_sigterm_answers_what_was_taken_in_and_nothing_else(run):
    server = run("--model", "mini=crossrank-mini-en-v1", "--num-threads", "1")
    assert server.client.get("/v1/models").json()["data"][0]["id"] == "mini"
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(server.client.post, "/v1/rerank", json=LONG)
        while 'crossrank_queue_requests{model="mini"} 1.0' not in server.client.get("/metrics").text:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        while not any(entry["message"] == "draining" for entry in server.log):
            time.sleep(0.005)
        assert not running.done(), "the test is too slow to see the drain"
        assert server.client.get("/v1/health/ready").status_code == 503
        assert server.client.get("/v1/health/live").status_code == 200
        refused = server.client.post("/v1/rerank", json=LONG)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        answered = running.result()
    assert answered.status_code == 200
    assert len(answered.json()["results"]) == 40
    assert server.process.wait(30) == 0
    assert all("red planet" not in json.dumps(entry) for entry in server.log)


@pytest.mark.slow
def test_workers_share_a_port_and_their_metrics_and_stop_together(run):
    server = run("--workers", "2", "--num-threads", "1")
    small = {"query": "red planet", "documents": ["Mars"]}
    for _ in range(20):
        with httpx.Client(base_url=server.client.base_url, trust_env=False, timeout=60) as client:
            assert client.post("/v1/rerank", json=small).status_code == 200
    assert 'crossrank_requests_total{dialect="shared",status="200"} 20.0' in server.client.get("/metrics").text
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines"),
        (["--host", "0.0.0.0", "--api-key-file", "no-such-file"], "no-such-file: cannot be read"),
        (["--model", "=x"], "write NAME=MODEL"),
        (["--model", "a=crossrank-mini-en-v1", "--model", "a=other"], "two models have the same name"),
        (["--port", "0", "--model", "/no/such/folder"], "no such folder"),
        (["--admin-key-file", "no-such-file"], "no-such-file: cannot be read"),
    ],
)
def test_what_cannot_be_served_is_one_line(crossrank, options, message, monkeypatch):
    monkeypatch.delenv("CROSSRANK_API_KEYS", raising=False)
    # It would take this process's handlers away from pytest.
    monkeypatch.setattr("logging.config.dictConfig", lambda config: None)
    result = crossrank("serve", *options)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_taken_port_is_one_line(crossrank):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = crossrank("serve", "--port", taken.getsockname()[1])
    assert result.exit_code == 1
    assert "choose another --port" in result.stderr


def test_without_its_packages_the_command_names_the_extra(crossrank, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    for name in [name for name in sys.modules if name.startswith("crossrank.serving")]:
        monkeypatch.delitem(sys.modules, name)
    result = crossrank("serve")
    assert result.exit_code == 1
    assert "pip install 'crossrank[serve]'" in result.stderr


@pytest.mark.parametrize("options", [["--insecure"], ["--api-key-file", "keys"]])
def test_binding_wider_needs_a_key_or_a_word(crossrank, options, monkeypatch, tmp_path):
    from crossrank.serving import server

    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").write_text("alice sk-alice-1234\n")
    told = []
    monkeypatch.setattr(server, "serve", lambda app, process, listening: told.append((app, process)))
    result = crossrank("serve", "--host", "0.0.0.0", "--port", "0", *options)
    assert result.exit_code == 0, result.stderr
    ((app, process),) = told
    assert process.host == "0.0.0.0"
    assert app.api_keys == ({} if "--insecure" in options else {"alice": "sk-alice-1234"})
    assert app.allowed_hosts == ()
    told.clear()
    assert crossrank("serve", "--port", "0").exit_code == 0
    assert "127.0.0.1" in told[0][0].allowed_hosts, "without keys only this machine's names are answered"
