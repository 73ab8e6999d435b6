"""Without its framework, an adapter names the line of pip that brings it."""

from __future__ import annotations

import importlib
import sys

import pytest

from crossrank.errors import MissingExtra


@pytest.mark.parametrize(
    ("adapter", "framework", "extra"),
    [
        ("langchain", "langchain_core.documents", "langchain"),
        ("llama_index", "llama_index.core.schema", "llama-index"),
        ("haystack", "haystack", "haystack"),
        ("lancedb", "lancedb.rerankers", "lancedb"),
    ],
)
def test_an_adapter_without_its_framework(adapter, framework, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, framework, None)
    monkeypatch.delitem(sys.modules, f"crossrank.integrations.{adapter}", raising=False)
    with pytest.raises(MissingExtra, match=rf"crossrank\[{extra}\]"):
        importlib.import_module(f"crossrank.integrations.{adapter}")


def test_a_remote_reranker_without_httpx(monkeypatch):
    from crossrank.integrations.remote import RemoteReranker

    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtra, match=r"crossrank\[remote\]"):
        RemoteReranker("tei", url="http://h")


def test_a_cross_encoder_without_its_library(monkeypatch):
    from crossrank.integrations.sentence_transformers import to_cross_encoder

    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=r"crossrank\[sentence-transformers\]"):
        to_cross_encoder(None)
