"""Runs and judgements to numbers, tables and plots; whatever scores is handed in."""
