"""Keys and the limits of each."""

from __future__ import annotations

import pytest

from crossrank.errors import DataError, InputError
from crossrank.serving.problems import Kind, Problem
from crossrank.serving.security import CallerLimits, Hosts, Keys, is_loopback, read_keys


def test_keys_come_from_a_file_and_from_the_environment(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# team keys\nalice sk-alice-1234\n\nsk-bare-5678  # no name\n")
    assert read_keys(file, "sk-env-aaaa, sk-env-bbbb") == {
        "key1": "sk-env-aaaa",
        "key2": "sk-env-bbbb",
        "alice": "sk-alice-1234",
        "key4": "sk-bare-5678",
    }
    assert read_keys(None, None) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alice sk-alice-1234\nalice sk-other-5678\n", r"keys:2: the name alice is given twice"),
        ("short\n", r"keys:1: write KEY or NAME KEY"),
        ("one two three-four\n", r"keys:1: write KEY"),
        ("# nothing\n", "holds no key"),
    ],
)
def test_a_bad_key_file_names_the_line(tmp_path, text, message):
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        read_keys(file, None)


def test_missing_files_and_short_keys_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_keys(tmp_path / "nowhere", None)
    with pytest.raises(InputError, match="CROSSRANK_API_KEYS"):
        read_keys(None, "abc")


def test_the_caller_is_found_by_the_key():
    keys = Keys({"alice": "sk-alice", "bob": "sk-bob"})
    assert keys.identify({"authorization": "Bearer sk-bob"}) == "bob"
    assert keys.identify({"authorization": "bearer  sk-alice "}) == "alice"
    assert keys.identify({"x-api-key": "sk-alice"}) == keys.identify({"api-key": "sk-alice"}) == "alice"
    assert keys.identify({"authorization": "Bearer", "x-api-key": "sk-bob"}) == "bob", "gateways send an empty one"
    wrong = ["", "Bearer", "Bearer ", "Bearer sk-bo", "Basic sk-bob", "sk-bob", "Bearer sk-bobé"]
    for headers in ({}, {"x-api-key": "sk-bo"}, *({"authorization": value} for value in wrong)):
        with pytest.raises(Problem) as refused:
            keys.identify(headers)
        assert refused.value.kind is Kind.UNAUTHORIZED


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer whatever"])
def test_without_keys_everybody_may_call_with_any_header(header):
    assert Keys({}).identify({"authorization": header}) == Keys({}).identify({}) == "anonymous"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "[::1]:8000", "[::1]", "a.example.com:1", "x.example.com"]
)
def test_hosts_that_are_answered_to(host):
    Hosts(["localhost", "[::1]", "*.example.com"]).check(host)
    Hosts([]).check("anything")


@pytest.mark.parametrize(
    "host", ["", "evil.example:8000", "localhost.evil.example", "example.com", "[::2]:8000", "::1"]
)
def test_other_hosts_are_refused_with_a_way_out(host):
    with pytest.raises(Problem, match="--allowed-host") as refused:
        Hosts(["localhost", "[::1]", "*.example.com"]).check(host)
    assert refused.value.kind is Kind.WRONG_HOST


def test_every_key_is_compared_in_constant_time(monkeypatch):
    import hmac

    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((len(a), len(b))) or real(a, b))
    Keys({"alice": "sk-alice", "bob": "sk-bob", "carol": "sk-carol"}).identify({"authorization": "Bearer sk-alice"})
    assert compared == [(32, 32)] * 3, "digests of one length, also after the match"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.com", "", "localhost.example.com"])
def test_not_loopback(host):
    assert not is_loopback(host)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_rate_is_a_bucket_of_each_caller_that_fills_evenly():
    clock = Clock()
    limits = CallerLimits(2, None, clock=clock)
    for _ in range(2):
        with limits.request("alice"):
            pass
    with pytest.raises(Problem) as refused, limits.request("alice"):
        pass
    assert refused.value.kind is Kind.RATE_LIMITED
    assert refused.value.retry_after_s == 30
    with limits.request("bob"):
        pass
    clock.now = 30.0
    with limits.request("alice"):
        pass
    with pytest.raises(Problem), limits.request("alice"):
        pass


def test_requests_at_a_time_are_counted_for_each_caller_and_given_back():
    limits = CallerLimits(None, 1)
    with limits.request("alice"):
        with pytest.raises(Problem) as refused, limits.request("alice"):
            pass
        assert refused.value.kind is Kind.RATE_LIMITED
        with limits.request("bob"):
            pass
    with pytest.raises(ZeroDivisionError), limits.request("alice"):
        _ = 1 / 0
    with limits.request("alice"):
        pass
