"""Images from the web, where an operator allows it: https, listed hosts, public addresses, small and quick.

The name of a host is resolved here, every address is checked, and the connection goes to a checked address: a name that
resolves to something else a moment later gains nothing. Redirects are followed by hand, each checked in the same way.

Source: the rules of the OWASP cheat sheet on server-side request forgery.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from crossrank.serving.options import ImageLimits
from crossrank.serving.problems import Kind, Problem
from crossrank.serving.security import matches_host

if TYPE_CHECKING:
    import httpx

Resolver = Callable[[str], Awaitable[list[str]]]

_MAX_REDIRECTS = 3
_HTTPS_PORT = 443


class ImageFetcher:
    """Fetches images from listed hosts.

    Args:
        limits: The hosts, the size and the time.
        resolve: Host name to addresses; the system's by default.
        transport: How requests are sent; over the network by default.
    """

    def __init__(
        self,
        limits: ImageLimits,
        *,
        resolve: Resolver | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._limits = limits
        self._resolve = resolve or _resolve_by_system
        self._transport = transport

    async def fetch(self, url: str) -> bytes:
        """Return the bytes behind an address.

        Raises:
            Problem: If the address is not allowed, cannot be reached, is too slow or holds too much.
        """
        if not self._limits.hosts:
            raise Problem(Kind.UNUSABLE, "is an address, and fetching is off here: send it as a data URL")
        import httpx

        try:
            async with (
                asyncio.timeout(self._limits.timeout_s),
                # No proxy, no netrc: the request goes where it was checked to go and carries nothing of ours.
                httpx.AsyncClient(transport=self._transport, trust_env=False, follow_redirects=False) as client,
            ):
                return await self._follow(client, url)
        except TimeoutError:
            raise Problem(Kind.UNUSABLE, f"did not arrive within {self._limits.timeout_s:g} seconds") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise Problem(Kind.UNUSABLE, f"could not be fetched: {type(error).__name__}") from None

    async def _follow(self, client: httpx.AsyncClient, url: str) -> bytes:
        import httpx

        target = httpx.URL(url)
        for _ in range(_MAX_REDIRECTS + 1):
            address = await self._check(target)
            request = client.build_request(
                "GET",
                target.copy_with(host=address),
                headers={"host": target.host, "accept": "image/*"},
                extensions={"sni_hostname": target.host},
            )
            response = await client.send(request, stream=True)
            try:
                if not response.is_redirect:
                    return await self._read(response)
                target = target.join(response.headers["location"])
            finally:
                await response.aclose()
        raise Problem(Kind.UNUSABLE, f"redirects more than {_MAX_REDIRECTS} times")

    async def _check(self, url: httpx.URL) -> str:
        """Return the address to connect to."""
        if url.scheme != "https" or url.port not in (None, _HTTPS_PORT) or url.userinfo:
            raise Problem(Kind.UNUSABLE, "must be at a plain https address")
        if not any(matches_host(url.host, pattern) for pattern in self._limits.hosts):
            raise Problem(Kind.UNUSABLE, "is on a host that is not listed here")
        addresses = await self._resolve(url.host)
        if not addresses:
            raise Problem(Kind.UNUSABLE, "is on a host that cannot be found")
        if not all(is_public(address) for address in addresses):
            raise Problem(Kind.UNUSABLE, "is on a host with an address that is not public")
        return addresses[0]

    async def _read(self, response: httpx.Response) -> bytes:
        if response.status_code != 200:
            raise Problem(Kind.UNUSABLE, f"could not be fetched: status {response.status_code}")
        data = bytearray()
        # Decoded chunks are counted, so a compressed answer cannot unfold beyond the limit.
        async for chunk in response.aiter_bytes(65536):
            data += chunk
            if len(data) > self._limits.max_bytes:
                raise Problem(Kind.UNUSABLE, f"has more than {self._limits.max_bytes} bytes")
        return bytes(data)


def is_public(address: str) -> bool:
    """Whether an address is on the open internet, also when it is an IPv4 address inside an IPv6 one."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None) or _nat64(ip)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _nat64(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    inside = ip in ipaddress.ip_network("64:ff9b::/96")
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if inside else None


async def _resolve_by_system(host: str) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, _HTTPS_PORT, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
