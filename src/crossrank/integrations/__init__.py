"""Adapters that let other tools use a reranker; nothing in the package imports them."""
