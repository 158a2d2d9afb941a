"""No network is said at once, instead of after the half minute in which the Hugging Face libraries retry."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

import datasets
import huggingface_hub.constants as hub


def resolvable(url: str) -> bool:
    """Whether the host of a URL has an address. Behind a proxy that is the proxy's business, so yes."""
    if getproxies():
        return True
    try:
        socket.getaddrinfo(urlsplit(url).hostname, None)
    except OSError:
        return False
    return True


@contextmanager
def hub_access() -> Iterator[None]:
    """Inside, the Hub's libraries read their caches only when the Hub cannot be found by name."""
    before = hub.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if not resolvable(os.environ.get("HF_ENDPOINT", hub.ENDPOINT)):
        hub.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before
