"""Tokens to scores: families resolved from a checkpoint's own files, loading, saving, and the forward passes."""
