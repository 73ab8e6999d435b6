"""Candidates to training groups, and logs to labels: pure rules; the scorer is handed in."""
