"""The files of `deploy/` against the server itself: metrics, routes, options, and what an image must not do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer.main

import crossrank
from crossrank.cli.main import app as command_line
from crossrank.serving.app import create_app
from crossrank.serving.metrics import Metrics

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
# `FROM image AS stage`, then its instructions.
STAGE = re.compile(r"^FROM (?P<base>\S+) AS (?P<name>\S+)$", re.MULTILINE)
PINNED = re.compile(r"[\w./-]+:v?\d[\w.-]*")


@pytest.fixture(scope="module")
def routes():
    return {(method, route.path) for route in create_app().routes for method in getattr(route, "methods", None) or ()}


@pytest.fixture(scope="module")
def series():
    """Every series of the server with its labels, out of the registry that `/metrics` renders."""
    found = {}
    for collector, names in Metrics().registry._collector_to_names.items():
        for name in names:
            bucket = {"le"} if name.endswith("_bucket") else set()
            found[name] = set(collector._labelnames) | bucket
    return found


def stages():
    """Return each stage of the Dockerfile with its base and its instructions, continuation lines joined."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    parts = STAGE.split(text)[1:]
    return {name: (base, body) for base, name, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True)}


def instructions(name, word):
    """Return the arguments of an instruction in a stage and in those that it is built on, the nearest first."""
    found = []
    while name in stages():
        name, body = stages()[name]
        found += [line.removeprefix(word).strip() for line in body.splitlines()[::-1] if line.startswith(f"{word} ")]
    return found


def documents(name):
    return [document for document in yaml.safe_load_all((DEPLOY / name).read_text()) if document]


def of_kind(kind):
    (found,) = [document for document in documents("kubernetes.yaml") if document["kind"] == kind]
    return found


def check_serve(arguments):
    """Check a command as the command line would; values and all."""
    assert arguments[0] == "serve"
    serve = typer.main.get_command(command_line).commands["serve"]
    with serve.make_context("serve", list(arguments[1:])) as context:
        assert context.params["host"] == "0.0.0.0" and context.params["port"] == 8000
        return context.params


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_the_image_starts_the_server_as_nobody_special(target, routes):
    assert instructions(target, "USER")[0] == "10001:10001"
    assert json.loads(instructions(target, "ENTRYPOINT")[0]) == ["crossrank"]
    params = check_serve(json.loads(instructions(target, "CMD")[0]))
    assert not params["insecure"], "without keys the image must refuse to start"
    health = instructions(target, "HEALTHCHECK")[0]
    assert ("GET", re.search(r"http://127\.0\.0\.1:8000(/[\w/]+)", health)[1]) in routes


def test_the_last_stage_is_the_small_one_and_bases_are_pinned():
    assert list(stages())[-1] == "cpu"
    for base, _ in stages().values():
        assert base in stages() or PINNED.fullmatch(base), base


@pytest.mark.parametrize("target", ["build-cpu", "build-cuda"])
def test_extras_exist_and_the_context_has_what_is_copied(target):
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (wanted,) = instructions(target, "ARG")
    assert set(wanted.removeprefix("EXTRAS=").split(",")) <= extras.keys()
    kept = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {part for line in instructions(target, "COPY") for part in line.split()[:-1]}
    assert copied == kept and all((ROOT / name).exists() for name in copied)


def test_own_images_have_the_version_of_the_package():
    text = "".join(path.read_text() for path in DEPLOY.glob("*") if path.is_file())
    tags = set(re.findall(r"crossrank:([\w.]+)-(?:cpu|cuda)", text))
    assert tags == {crossrank.__version__}
    assert "latest" not in text


def test_compose_is_closed_to_the_outside_and_mounts_what_is_there():
    (compose,) = documents("compose.yaml")
    (cuda,) = documents("compose.cuda.yaml")
    assert cuda["services"]["crossrank"]["build"]["target"] in stages()
    for name, service in compose["services"].items():
        assert PINNED.fullmatch(service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert set(service["secrets"]) <= compose["secrets"].keys()
        assert set(service.get("depends_on", ())) <= compose["services"].keys()
        for source in (volume.split(":")[0] for volume in service["volumes"]):
            assert (DEPLOY / source).exists() if source.startswith(".") else source in compose["volumes"]
    server = compose["services"]["crossrank"]
    assert server["build"]["target"] in stages() and (DEPLOY / server["build"]["context"] / "src").is_dir()
    assert server["read_only"] and server["cap_drop"] == ["ALL"]
    params = check_serve(server["command"])
    assert str(params["api_key_file"]) == "/run/secrets/api_key"
    assert int(server["stop_grace_period"].removesuffix("s")) > params["drain_timeout"]


def test_prometheus_asks_the_server_with_its_key(routes):
    (config,) = documents("prometheus/prometheus.yaml")
    (job,) = config["scrape_configs"]
    assert ("GET", job["metrics_path"]) in routes
    assert job["authorization"]["credentials_file"] == "/run/secrets/api_key"
    assert job["static_configs"] == [{"targets": ["crossrank:8000"]}]


def test_every_metric_and_label_of_the_dashboard_exists(series):
    dashboard = json.loads((DEPLOY / "grafana/dashboards/crossrank.json").read_text())
    (source,) = documents("grafana/provisioning/datasources/prometheus.yaml")[0]["datasources"]
    used = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == source["uid"]
            names = re.findall(r"crossrank_\w+", target["expr"])
            labels = re.findall(r"by \(([^)]*)\)", target["expr"]) + re.findall(r"{{(\w+)}}", target["legendFormat"])
            assert names and set(names) <= series.keys(), target["expr"]
            wanted = {label.strip() for group in labels for label in group.split(",")}
            assert all(wanted <= series[name] for name in names), target["expr"]
            assert target["expr"].count("(") == target["expr"].count(")")
            used |= {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in names}
    made = {re.sub(r"_(bucket|sum|count|total|created)$", "", name) for name in series}
    assert used == made, "a metric of the server is on no panel"
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in dashboard["panels"]})


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_probes_hit_real_routes(probe, routes):
    (container,) = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    asked = container[probe]["httpGet"]
    assert ("GET", asked["path"]) in routes
    assert asked["path"].endswith("live" if probe == "livenessProbe" else "ready")
    assert asked["port"] in {port["name"] for port in container["ports"]}


def test_pods_are_closed_and_drain():
    pod = of_kind("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    user = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert pod["securityContext"]["runAsNonRoot"] and user == instructions("cpu", "USER")[0]
    closed = container["securityContext"]
    assert closed["readOnlyRootFilesystem"] and not closed["allowPrivilegeEscalation"]
    assert closed["capabilities"] == {"drop": ["ALL"]}
    assert PINNED.fullmatch(container["image"])
    params = check_serve(container["args"])
    assert str(params["api_key_file"]) == "/run/keys/keys" and params["num_threads"] == 4
    assert pod["terminationGracePeriodSeconds"] > params["drain_timeout"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_everything_selects_the_same_pods():
    deployment = of_kind("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert of_kind("Service")["spec"]["selector"] == labels
    assert of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    scaled = of_kind("HorizontalPodAutoscaler")["spec"]
    assert scaled["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert scaled["minReplicas"] <= deployment["spec"]["replicas"] <= scaled["maxReplicas"]
