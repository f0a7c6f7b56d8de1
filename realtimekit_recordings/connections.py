"""HTTP connections with the proxies and certificates that botocore would use."""

from __future__ import annotations

import os

import boto3
import urllib3
from botocore.httpsession import ProxyConfiguration
from botocore.utils import get_environ_proxies

# The catalogue page sends so many requests at once; more connections to a host are not kept.
MAX_KEPT_CONNECTIONS = 8


class Connections:
    """Connections to any host."""

    def __init__(self, session: boto3.Session) -> None:
        # boto3 gives AWS_CA_BUNDLE and ca_bundle only by its private session; botocore reads
        # REQUESTS_CA_BUNDLE after them (botocore.args, _get_verify_value).
        bundle = session._session.get_config_variable("ca_bundle")
        self._ca_certs = bundle or os.environ.get("REQUESTS_CA_BUNDLE")
        self._pools: dict[str | None, urllib3.PoolManager] = {}

    def to(self, url: str) -> urllib3.PoolManager:
        """Return the pool for a URL or its proxy. Raises `HTTPError` for an invalid proxy URL."""
        proxies = ProxyConfiguration(get_environ_proxies(url))
        proxy = proxies.proxy_url_for(url)
        if proxy not in self._pools:
            self._pools[proxy] = self._pool(proxy, proxies)
        return self._pools[proxy]

    def _pool(self, proxy: str | None, proxies: ProxyConfiguration) -> urllib3.PoolManager:
        if proxy is None:
            return urllib3.PoolManager(maxsize=MAX_KEPT_CONNECTIONS, ca_certs=self._ca_certs)
        return urllib3.ProxyManager(
            proxy,
            proxy_headers=proxies.proxy_headers_for(proxy),
            maxsize=MAX_KEPT_CONNECTIONS,
            ca_certs=self._ca_certs,
        )
