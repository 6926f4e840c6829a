"""Optimiser and learning-rate schedule from a victim's recipe."""

from __future__ import annotations

import math

import torch
from torch import nn

from vbench.errors import BadInput
from vbench.victims.recipe import Recipe


def make_optimizer(victim: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Two parameter groups, head and trunk, each with its share of the peak rate as ``scale``."""
    head, trunk = [], []
    for name, parameter in victim.named_parameters():
        if parameter.requires_grad:
            (head if name.startswith(recipe.head) else trunk).append(parameter)
    groups = [{"params": trunk, "scale": recipe.trunk_rate}, {"params": head, "scale": 1.0}]
    groups = [group for group in groups if group["params"]]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, weight_decay=decay, momentum=recipe.momentum, nesterov=True)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=rate, weight_decay=decay)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=decay)
    raise BadInput(f"recipe: unknown optimizer '{recipe.optimizer}'; known: adam, adamw, sgd")


def set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, epoch: int, fraction: float) -> float:
    """Set the rate for a moment of training and return it; see :func:`rate_at`."""
    rate = rate_at(recipe, epoch, fraction)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    return rate


def rate_at(recipe: Recipe, epoch: int, fraction: float) -> float:
    """Learning rate of the head in ``epoch`` (from 0), ``fraction`` (in [0, 1)) of which has passed."""
    if recipe.schedule == "step":
        warm = min(1.0, (epoch + 1) / recipe.warmup_epochs) if recipe.warmup_epochs else 1.0
        return recipe.learning_rate * warm * 0.1 ** sum(epoch >= stone for stone in recipe.milestones)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * _cosine(epoch + fraction, recipe.warmup_epochs, recipe.epochs)
    raise BadInput(f"recipe: unknown schedule '{recipe.schedule}'; known: cosine, step")


def _cosine(now: float, warmup: float, end: float) -> float:
    if now < warmup:
        return max(now / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (now - warmup) / (end - warmup)))
