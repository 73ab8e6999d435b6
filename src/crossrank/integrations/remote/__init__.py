"""Rerankers behind an HTTP API, as one of crossrank's own: `RemoteReranker`."""

from crossrank.integrations.remote.providers import PROVIDERS
from crossrank.integrations.remote.reranker import RemoteReranker

__all__ = ["PROVIDERS", "RemoteReranker"]
