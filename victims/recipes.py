"""What recipes of several victims have in common; each model's file says how it differs."""

from __future__ import annotations

from vbench.victims.recipe import Recipe

#: The published schedule of AGW, which most later two-stream models took over.
PUBLISHED_TWO_STREAM = Recipe(
    epochs=81,
    identities=8,
    instances=4,
    optimizer="sgd",
    learning_rate=0.1,
    weight_decay=5e-4,
    schedule="step",
    warmup_epochs=10,
    milestones=(20, 50),
    head=("neck", "classifier"),
    trunk_rate=0.1,
    padding=10,
)
#: Settings found for a thin residual network on two CPU cores.
THIN_RESIDUAL = Recipe(
    epochs=20,
    identities=16,
    instances=2,
    optimizer="adamw",
    learning_rate=1e-2,
    weight_decay=5e-4,
    schedule="cosine",
    warmup_epochs=4,
    label_smoothing=0.1,
    padding=2,
    erasing=0.3,
    erasing_area=(0.02, 0.1),
    validation=0.05,
)
#: Constructor options of that network: every part of the full one, one block a stage.
THIN_RESIDUAL_OPTIONS = {
    "width": 0.25,
    "blocks": (1, 1, 1, 1),
    "block": "basic",
    "small_stem": True,
    "input_size": (64, 32),
}
