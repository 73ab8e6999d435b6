"""Many pairs to scores, fast: the batch planner and one engine a runtime."""
