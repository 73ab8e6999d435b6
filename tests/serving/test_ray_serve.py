"""The app on Ray Serve: what is refused at once, and two replicas that answer as one server does."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from crossrank.cli.main import app as command_line
from crossrank.errors import InputError

pytest.importorskip("ray")

from crossrank.serving.ray_serve import Replicas, build_application, check_room

MAIN = "from crossrank.cli.main import app; app(prog_name='crossrank')"
BODY = {"query": "which planet is red", "documents": ["Bread needs flour.", "Mars is called the red planet."]}


@pytest.mark.parametrize("replicas", [Replicas(3), Replicas(1, num_cpus=3), Replicas(1, num_gpus=1)])
def test_a_cluster_that_is_too_small_is_refused(replicas):
    check_room({"CPU": 2.0}, Replicas(2, 8))
    with pytest.raises(InputError, match="has 2 CPUs and 0 GPUs: no room for"):
        check_room({"CPU": 2.0}, replicas)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--replicas", "2"], "need --engine ray"),
        (["--engine", "ray", "--replicas", "2", "--max-replicas", "1"], "--max-replicas 1 is less than --replicas 2"),
        (["--engine", "ray", "--workers", "2"], "say --replicas"),
        (["--engine", "ray", "--port", "0"], "needs a --port above 0"),
        (["--engine", "ray", "--host", "0.0.0.0"], "can be reached from other machines"),
    ],
)
def test_options_that_do_not_go_together(options, message, monkeypatch):
    from typer.testing import CliRunner

    monkeypatch.delenv("CROSSRANK_API_KEYS", raising=False)
    result = CliRunner().invoke(command_line, ["serve", *options])
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr


def test_the_application_says_how_it_grows():
    from crossrank.serving.options import LoadArguments, ServeOptions

    options = ServeOptions(load=LoadArguments(device="cpu"))
    replicas = Replicas(2, 5, num_cpus=4)
    application = build_application(options, replicas, drain_timeout_s=7, log_level="info")
    deployment = application._bound_deployment
    config = deployment._deployment_config
    assert (config.autoscaling_config.min_replicas, config.autoscaling_config.max_replicas) == (2, 5)
    assert config.graceful_shutdown_timeout_s == 7
    assert deployment.ray_actor_options == {"num_cpus": 4, "num_gpus": 0}


@pytest.mark.slow
def test_two_replicas_answer_as_the_server_does(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", MAIN, "serve", "--engine", "ray", "--replicas", "2", "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, stderr=log, stdout=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            end = time.monotonic() + 240
            while '"message": "serving"' not in (tmp_path / "log").read_text():
                assert server.poll() is None and time.monotonic() < end, (tmp_path / "log").read_text()
                time.sleep(1)
            assert client.get("/v1/health/ready").status_code == 200
            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(lambda _: client.post("/jina/v1/rerank", json=BODY), range(24)))
            assert {answer.status_code for answer in answers} == {200}, answers[0].text
            assert {answer.json()["results"][0]["index"] for answer in answers} == {1}
            assert answers[0].headers["x-content-type-options"] == "nosniff"
            from crossrank import Reranker

            expected = Reranker.load().rank(BODY["query"], BODY["documents"], score_type="probability")[0].score
            assert answers[0].json()["results"][0]["relevance_score"] == pytest.approx(expected, abs=1e-2)
            assert client.post("/v2/rerank", json={"query": 3}).status_code == 400
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(120)
    log = (tmp_path / "log").read_text()
    assert code == 0 and '"message": "draining"' in log, log
    answered_by = set(re.findall(r"pid=(\d+)\).*\"path\": \"/jina/v1/rerank\"", log))
    assert len(answered_by) == 2, log
