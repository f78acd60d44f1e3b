"""Who may ask what.

Rules (design, section 11):

- Health is open to everybody who reaches the port. Everything else takes the API key, or a client on this host: over
  loopback or the unix socket. Where no key is configured, a client elsewhere is refused.
- What counts is the address of the connection. `X-Forwarded-For` and its like are not looked at: anybody can send them.
- A browser on this host must not be turned against its user. A name that an attacker has pointed at loopback (DNS
  rebinding) shows in `Host`, which must name this instance on every loopback request; a page of another site shows in
  `Origin`, which must be the same as `Host`.
"""

from __future__ import annotations

import hmac
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from attrs import field, frozen
from quart import request
from werkzeug.datastructures import Headers

from meshd.configuration import Configuration
from meshd.errors import ApiError

OPEN_PATHS = frozenset({"/livez", "/readyz", "/api/health", "/api/health/detailed"})


@frozen
class Access:
    """The rules for one instance; `hosts` are the names, in lower case, that a loopback request may call it by."""

    api_key: str | None = field(default=None, repr=False)
    hosts: frozenset[str] = frozenset()

    async def before_request(self) -> None:
        """Check the request at hand; Quart calls this before routing's result is used."""
        client = request.scope.get("client")
        self.check(request.path, client[0] if client else None, request.headers)

    def check(self, path: str, client: str | None, headers: Headers) -> None:
        """Raise `ApiError` for a request that may not be served. `client` is an address, None on the unix socket."""
        host = headers.get("Host", "")
        is_local = client is None or _is_loopback(client)
        if client and is_local and host and not self._is_own(host):
            raise ApiError(403, "forbidden-host", f"this instance is not called {host!r:.80}")
        origin = headers.get("Origin")
        if origin is not None and (not host or origin.partition("://")[2].lower() != host.lower()):
            raise ApiError(403, "forbidden-origin", f"pages of {origin!r:.80} may not use this API")
        if path.rstrip("/") not in OPEN_PATHS and not is_local:
            self._check_key(headers)

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self.hosts or _is_loopback(name)

    def _check_key(self, headers: Headers) -> None:
        if not self.api_key:
            raise ApiError(401, "unauthorized", "no AUTOMAKER_API_KEY is configured: only clients on this host may ask")
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        given = headers.get("X-API-Key") or (token.strip() if scheme.lower() == "bearer" else "")
        # Header values are bytes that were decoded as Latin-1; the key came from the environment as UTF-8.
        if not hmac.compare_digest(given.encode("latin-1", "replace"), self.api_key.encode()):
            raise ApiError(401, "unauthorized", "from another host this takes the key, as bearer token or X-API-Key")


def own_hosts(configuration: Configuration, hostname: str) -> frozenset[str]:
    """The names by which this instance may be called, besides loopback addresses."""
    url = configuration.protolab.instance_url
    names = {
        "localhost",
        configuration.api.bind_addr,
        configuration.protolab.instance_id,
        (urlsplit(url).hostname if url else None) or "",
        hostname,
        hostname.partition(".")[0],
    }
    return frozenset(name.lower() for name in names if name)


def _is_loopback(address: str) -> bool:
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return (mapped or ip).is_loopback
