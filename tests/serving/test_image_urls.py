"""Images from the web: off by default; where on, https to listed hosts with public addresses, checked at every hop."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from crossrank.serving.image_urls import ImageFetcher, is_public
from crossrank.serving.options import ImageLimits
from crossrank.serving.problems import Problem

ADDRESSES = {
    "img.example.com": ["93.184.216.34"],
    "cdn.example.org": ["2606:2800:220:1:248:1893:25c8:1946", "93.184.216.35"],
    "deep.cdn.example.org": ["93.184.216.36"],
    "inside.example.com": ["10.0.0.7"],
    "half.example.com": ["93.184.216.34", "169.254.169.254"],
    "gone.example.com": [],
}
HOSTS = ("img.example.com", "*.example.org", "inside.example.com", "half.example.com", "gone.example.com")


def fetch(url, answer=None, *, limits=None, seen=None) -> bytes:
    def handle(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return answer(request) if callable(answer) else answer or httpx.Response(200, content=b"image")

    async def resolve(host: str) -> list[str]:
        return ADDRESSES.get(host, ["93.184.216.99"])

    limits = limits or ImageLimits(hosts=HOSTS, max_bytes=1000, timeout_s=1)
    return asyncio.run(ImageFetcher(limits, resolve=resolve, transport=httpx.MockTransport(handle)).fetch(url))


def test_fetching_is_off_by_default():
    with pytest.raises(Problem, match="fetching is off here"):
        fetch("https://img.example.com/a.png", limits=ImageLimits())


def test_the_connection_goes_to_the_checked_address_and_the_certificate_is_that_of_the_name():
    seen = []
    assert fetch("https://img.example.com/a.png?x=1", seen=seen) == b"image"
    (request,) = seen
    assert str(request.url) == "https://93.184.216.34/a.png?x=1"
    assert request.headers["host"] == "img.example.com"
    assert request.extensions["sni_hostname"] == "img.example.com"
    assert "authorization" not in request.headers
    assert "cookie" not in request.headers


def test_a_star_stands_for_any_name_below_a_domain():
    assert fetch("https://deep.cdn.example.org/a.png") == b"image"
    assert fetch("https://cdn.example.org/a.png") == b"image"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://img.example.com/a.png", "plain https address"),
        ("https://img.example.com:8443/a.png", "plain https address"),
        ("https://user:secret@img.example.com/a.png", "plain https address"),
        ("https://evil.example.net/a.png", "not listed"),
        ("https://img.example.com.evil.net/a.png", "not listed"),
        ("https://evilexample.org/a.png", "not listed"),
        ("https://127.0.0.1/a.png", "not listed"),
        ("https://inside.example.com/a.png", "not public"),
        ("https://half.example.com/a.png", "not public"),
        ("https://gone.example.com/a.png", "cannot be found"),
        ("https://[::1", "could not be fetched"),
    ],
)
def test_other_addresses_are_refused_without_a_request(url, message):
    seen = []
    with pytest.raises(Problem, match=message):
        fetch(url, seen=seen)
    assert seen == []


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("http://img.example.com/b.png", "plain https"),
        ("https://169.254.169.254/latest/meta-data", "not listed"),
        ("https://inside.example.com/b.png", "not public"),
        ("//evil.example.net/b.png", "not listed"),
        ("file:///etc/passwd", "plain https"),
    ],
)
def test_redirects_are_checked_like_the_first_address(target, message):
    seen = []
    with pytest.raises(Problem, match=message):
        fetch("https://img.example.com/a.png", httpx.Response(302, headers={"location": target}), seen=seen)
    assert len(seen) == 1


def test_good_redirects_are_followed_and_loops_are_not():
    def moved(request):
        if request.url.path == "/a.png":
            return httpx.Response(301, headers={"location": "https://cdn.example.org/b.png"})
        return httpx.Response(200, content=b"moved")

    assert fetch("https://img.example.com/a.png", moved) == b"moved"
    with pytest.raises(Problem, match="redirects more than 3 times"):
        fetch("https://img.example.com/a.png", httpx.Response(302, headers={"location": "/a.png"}))


def test_large_slow_and_missing_images_are_refused():
    with pytest.raises(Problem, match="more than 1000 bytes"):
        fetch("https://img.example.com/a.png", httpx.Response(200, content=b"x" * 2000))
    with pytest.raises(Problem, match="status 404"):
        fetch("https://img.example.com/a.png", httpx.Response(404))

    def fail(request):
        raise httpx.ConnectError("no route")

    with pytest.raises(Problem, match="could not be fetched: ConnectError"):
        fetch("https://img.example.com/a.png", fail)

    async def forever(host):
        await asyncio.sleep(60)

    limits = ImageLimits(hosts=HOSTS, timeout_s=0.1)
    with pytest.raises(Problem, match=r"within 0\.1 seconds"):
        asyncio.run(ImageFetcher(limits, resolve=forever).fetch("https://img.example.com/a.png"))


def test_a_compressed_answer_is_counted_unfolded():
    import gzip

    small = gzip.compress(b"\0" * 1_000_000)
    assert len(small) < 1100
    with pytest.raises(Problem, match="more than 1000 bytes"):
        fetch("https://img.example.com/a.png", httpx.Response(200, headers={"content-encoding": "gzip"}, content=small))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "2002:0a00:0001::1",
        "64:ff9b::7f00:1",
        "not an address",
    ],
)
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34"])
def test_addresses_that_are_public(address):
    assert is_public(address)
