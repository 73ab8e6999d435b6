"""Every dialect to the letter: recorded requests with fixed logits over a real socket, and the answers they must get.

In an answer `"<uuid>"`, `"<int>"` and `"<str>"` stand for any such value. All keys must be there and no others.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from running_server import Running, fixed_logits, twin

from crossrank.serving.dialects.choice import DIALECTS

FOLDER = Path(__file__).parent / "golden"
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted(FOLDER.glob("*.json"))
    for case in json.loads(path.read_text(encoding="utf-8"))
]


@pytest.fixture(scope="module")
def stubbed(tiny_reranker):
    reranker = twin(tiny_reranker)
    with Running.on(reranker) as running:
        running.reranker = reranker
        yield running


def assert_matches(actual, golden, at: str = "answer") -> None:
    if golden == "<uuid>":
        uuid.UUID(actual)
    elif golden == "<int>":
        assert isinstance(actual, int) and actual > 0, at
    elif golden == "<str>":
        assert isinstance(actual, str) and actual, at
    elif isinstance(golden, dict):
        assert isinstance(actual, dict), at
        assert actual.keys() == golden.keys(), at
        for key, value in golden.items():
            assert_matches(actual[key], value, f"{at}.{key}")
    elif isinstance(golden, list):
        assert isinstance(actual, list) and len(actual) == len(golden), at
        for i, value in enumerate(golden):
            assert_matches(actual[i], value, f"{at}[{i}]")
    elif isinstance(golden, float):
        assert actual == pytest.approx(golden, abs=1e-5), at
    else:
        assert actual == golden, at


@pytest.mark.parametrize("case", CASES)
def test_a_recorded_request_gets_its_recorded_answer(case, stubbed):
    stubbed.reranker.compute = fixed_logits(case["logits"])
    answered = stubbed.client.post(case["path"], json=case["request"], headers=case.get("headers", {}))
    assert answered.status_code == case["status"], answered.text
    assert_matches(answered.json(), case["answer"])
    assert all(header in answered.headers for header in case.get("answer_headers", []))


def test_every_dialect_is_recorded():
    recorded = {path.stem.removesuffix("_v1").removesuffix("_v2") for path in FOLDER.glob("*.json")}
    assert recorded == {dialect.name for dialect in DIALECTS} | {"shared"}
