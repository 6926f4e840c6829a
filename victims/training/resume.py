"""The state of an unfinished training run, so that it can be resumed."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vbench.core.errors import BadInput
from vbench.core.files import write_atomically

_REMEDY = "delete it or train without resuming"


class UnusableState(BadInput):
    """A state file from which training cannot be resumed."""


@dataclass(frozen=True)
class TrainState:
    """The state after an epoch: epochs done, weights, optimiser and the losses so far.

    No random state is needed: every epoch uses generators made from the seed and its own number.
    """

    epochs_done: int
    model: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    history: list[dict[str, float]]

    def restore(self, out: Path, victim: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Restore weights and optimiser; raises UnusableState if they are of another victim."""
        try:
            victim.load_state_dict(self.model)
            optimizer.load_state_dict(self.optimizer)
        except Exception as error:  # a file that is not ours can fail in any way
            raise UnusableState(f"{state_path(out)}: not the state of this victim; {_REMEDY}") from error


def state_path(out: Path) -> Path:
    """Path of the state file that belongs to the weights file ``out``."""
    return out.with_name(out.name + ".partial")


def fingerprint_of(facts: dict[str, Any]) -> str:
    """Hash everything that determines the result, so that a run is never resumed from another one's state."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def save_state(
    out: Path,
    fingerprint: str,
    epochs_done: int,
    victim: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, float]],
) -> None:
    """Write the state after an epoch; the previous one is kept until this one is complete."""
    buffer = io.BytesIO()
    content = {
        "fingerprint": fingerprint,
        "epochs_done": epochs_done,
        "model": victim.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": json.dumps(history),
    }
    torch.save(content, buffer)
    write_atomically(state_path(out), buffer.getvalue())


def load_state(out: Path, fingerprint: str) -> TrainState | None:
    """Read the state of an unfinished run, None if there is none.

    Raises UnusableState for a damaged one and for one left by a run with other settings.
    """
    path = state_path(out)
    if not path.is_file():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about the pickle protocol of files it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
        stored = content["fingerprint"]
        state = TrainState(
            content["epochs_done"], content["model"], content["optimizer"], json.loads(content["history"])
        )
        if type(state.epochs_done) is not int or state.epochs_done < 0 or type(state.history) is not list:
            raise TypeError("no number of epochs, or no history of them")
    except Exception as error:  # a file that is not ours can fail in any way
        raise UnusableState(f"{path}: not the state of a training run; {_REMEDY}") from error
    if stored != fingerprint:
        raise UnusableState(f"{path}: left by a training run with other settings or data; {_REMEDY}")
    return state


def drop_state(out: Path) -> None:
    """Remove the state of a finished run."""
    state_path(out).unlink(missing_ok=True)
