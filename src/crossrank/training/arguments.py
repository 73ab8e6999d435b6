"""The recipe in the words of `transformers.TrainingArguments`."""

from __future__ import annotations

import importlib.util
import math
import os

import torch
from transformers import TrainingArguments

from crossrank.errors import InputError
from crossrank.training.config import Recipe, TrainingSection

# The schedule of NeMo AutoModel: up from a tenth of the peak, down to a hundredth.
_SCHEDULES = {
    "cosine": ("cosine_warmup_with_min_lr", {"warmup_lr_rate": 0.1, "min_lr_rate": 0.01}),
    "linear": ("linear", {}),
    "constant": ("constant_with_warmup", {}),
}


def count_steps(section: TrainingSection, num_groups: int) -> int:
    """Return how many updates a run has."""
    return section.max_steps or math.ceil(section.num_epochs * num_groups / section.global_batch_size)


def training_arguments(recipe: Recipe, *, num_steps: int, evaluate_first: bool) -> TrainingArguments:
    """Return what the Trainer is told; under torchrun, this joins the other processes.

    Raises:
        InputError: If the recipe does not fit this machine, or the number of processes.
    """
    section, on_cpu = recipe.training, trains_on_cpu()
    if section.precision == "fp16" and on_cpu:
        raise InputError("training.precision fp16 needs a GPU: use bf16 or fp32")
    for package in recipe.logging.report_to:
        if importlib.util.find_spec(package) is None:
            raise InputError(f"logging.report_to: {package} is not installed: pip install {package}")
    schedule, options = _SCHEDULES[section.schedule]
    try:
        arguments = TrainingArguments(
            output_dir=recipe.output,
            max_steps=num_steps,
            per_device_train_batch_size=section.local_batch_size,
            learning_rate=section.learning_rate,
            weight_decay=section.weight_decay,
            warmup_steps=section.warmup_steps,
            lr_scheduler_type=schedule,
            lr_scheduler_kwargs=options,
            max_grad_norm=section.max_grad_norm,
            bf16=section.precision == "bf16",
            fp16=section.precision == "fp16",
            use_cpu=on_cpu,
            fsdp=section.sharding == "fsdp2" or None,
            ddp_backend="gloo" if on_cpu and "WORLD_SIZE" in os.environ else None,
            ddp_find_unused_parameters=False,
            dataloader_num_workers=section.num_workers,
            dataloader_pin_memory=not on_cpu,
            remove_unused_columns=False,
            seed=section.seed,
            logging_steps=recipe.logging.every_steps,
            logging_nan_inf_filter=False,
            report_to=list(recipe.logging.report_to) or "none",
            run_name=recipe.logging.run_name,
            eval_strategy="no",
            eval_on_start=evaluate_first,
            save_strategy="no",
            disable_tqdm=True,
        )
    except ValueError as error:  # such as a GPU without bfloat16
        raise InputError(f"training: {error}") from None
    # One process uses one device: without torchrun the Trainer would split batches over all GPUs (DataParallel).
    arguments._n_gpu = min(arguments.n_gpu, 1)
    arguments.gradient_accumulation_steps = _count_micro_batches(section, arguments.world_size)
    return arguments


def trains_on_cpu() -> bool:
    """Return whether there is no accelerator here."""
    return not (torch.cuda.is_available() or torch.backends.mps.is_available())


def _count_micro_batches(section: TrainingSection, num_processes: int) -> int:
    at_once = section.local_batch_size * num_processes
    if section.global_batch_size % at_once:
        raise InputError(
            f"training.global_batch_size={section.global_batch_size} must be a multiple of local_batch_size="
            f"{section.local_batch_size} times {num_processes} processes: every update then sees whole micro-batches"
        )
    if section.sharding == "fsdp2" and num_processes == 1:
        raise InputError("training.sharding fsdp2 needs several processes: start with torchrun --nproc-per-node N")
    return section.global_batch_size // at_once
