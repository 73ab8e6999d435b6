"""Groups to a checkpoint: the recipe, losses as pure functions of `(G, N)` scores, the trainer, LoRA, resume."""
