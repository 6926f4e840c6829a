"""Where other people's code runs: on copies, from a seed, and watched for what it changes beyond them.

Attacks and victims may be anybody's. What they are given is theirs to change: a :func:`twin` of the victim,
copies of images and embeddings. What they can reach besides is the process (:func:`contained`) and, through
objects they found elsewhere, the victim that others will use (:func:`untouched`): that is compared, put back,
and named in the error. This keeps accidents apart from the figures of others; it is no prison for an attacker
who means to get out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vbench.attacks.chance import chance, own_chance, sow
from vbench.errors import BadInput, VbenchError
from vbench.plugins import reason
from vbench.process_state import ProcessState

T = TypeVar("T")


def twin(victim: T, who: str = "") -> T:
    """An independent copy of a victim or an attack, weights included.

    Raises :class:`BadInput` for one that cannot be copied; ``who`` names it there.
    """
    modules = victim.modules() if isinstance(victim, nn.Module) else ()
    values = (value for module in modules for value in vars(module).values())
    # torch copies no results of a computation; weight_norm, for one, keeps some as attributes.
    memo: dict[int, Any] = {
        id(value): value.detach().clone()
        for value in values
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        with torch.inference_mode(False):
            return copy.deepcopy(victim, memo)
    except (Exception, SystemExit) as error:
        who = who or f"victim '{victim.name}'"
        raise BadInput(f"{who} is run on copies and cannot be copied: {reason(error)}") from error


@dataclass
class Ran:
    """How contained code ran. ``drew``: it used the random state of Python, NumPy or torch."""

    drew: bool = False


@contextmanager
def contained(who: str, seed: int | None = None) -> Iterator[Ran]:
    """Run somebody's code: ``who``, such as "attack 'pgd'", is named in every error that it causes.

    With ``seed`` all global random state starts from it, and is put back afterwards. Raises
    :class:`VbenchError` for whatever the code raises, with file and line, and for settings of the process
    that it changed, which are put back. Running out of memory passes through, for whoever can do with less.
    """
    ran, state = Ran(), ProcessState()
    try:
        with own_chance() if seed is not None else nullcontext():
            before = None
            if seed is not None:
                sow(seed)
                before = chance()
            yield ran
            ran.drew = before is not None and chance() != before
    except torch.cuda.OutOfMemoryError:
        state.put_back()
        raise
    except (Exception, SystemExit) as error:
        _refuse(who, state.put_back(), error)
        if isinstance(error, VbenchError) and not isinstance(error, BadInput):
            raise
        # Bad input that shows up in the middle of the work is work that failed.
        raise VbenchError(str(error) if isinstance(error, BadInput) else f"{who}: {reason(error)}") from error
    finally:
        changed = state.put_back()
    _refuse(who, changed)


@contextmanager
def untouched(who: str, *victims: nn.Module) -> Iterator[None]:
    """Put back what happens to victims, and to their classes, while the block runs; it should be nothing.

    Raises :class:`VbenchError` naming what ``who`` changed.
    """
    kept = [_Kept(victim) for victim in {id(victim): victim for victim in victims}.values()]

    def put_back() -> list[str]:
        return [change for one in kept for change in one.put_back()]

    try:
        yield
    except Exception as error:
        _refuse(who, put_back(), error)
        raise
    finally:
        changed = put_back()
    _refuse(who, changed)


def _refuse(who: str, changed: list[str], cause: BaseException | None = None) -> None:
    if changed:
        shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        line = f"{who} changed {shown}, which others depend on; it may change nothing but what it is given"
        raise VbenchError(line) from cause


class _Kept:
    """A victim as it is now: its tensors, the attributes of its modules, and those of their classes."""

    def __init__(self, victim: nn.Module) -> None:
        self._victim = victim
        self._modules = [(name, module, _attributes(module)) for name, module in victim.named_modules()]
        classes = {cls for module in victim.modules() for cls in type(module).__mro__ if cls is not object}
        self._classes = [(cls, dict(vars(cls))) for cls in classes]
        self._tensors = [
            (name, tensor, tensor.detach().clone(), tensor.requires_grad, tensor.grad)
            for name, tensor in (*victim.named_parameters(), *victim.named_buffers())
        ]

    def put_back(self) -> list[str]:
        """Put back all that is not as it was; what was changed, by name."""
        whose = f"victim '{getattr(self._victim, 'name', type(self._victim).__name__)}'"
        changed = [
            f"{cls.__name__}.{name}" for cls, kept in self._classes for name in _restore_class(cls, kept)
        ]
        for name, module, kept in self._modules:
            found = _restore_attributes(module, kept)
            changed += [f"'{f'{name}.{attribute}'.lstrip('.')}' of {whose}" for attribute in found]
        for name, tensor, *kept in self._tensors:
            if _restore_tensor(tensor, *kept):
                changed.append(f"'{name}' of {whose}")
        return changed


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Attributes of one module; of hooks and other tables a copy, so that additions to them show."""
    return {
        name: (value, dict(value) if isinstance(value, dict) else None)
        for name, value in vars(module).items()
    }


def _restore_attributes(module: nn.Module, kept: dict[str, Any]) -> list[str]:
    now = _attributes(module)
    changed = [name for name in {**kept, **now} if not _same(kept.get(name), now.get(name))]
    for name in changed:
        vars(module).pop(name, None)
        if name in kept:
            value, content = kept[name]
            if content is not None:
                value.clear()
                value.update(content)
            vars(module)[name] = value
    return changed


def _same(before: tuple[Any, Any] | None, after: tuple[Any, Any] | None) -> bool:
    if before is None or after is None or before[0] is not after[0]:
        return False
    return before[1] is None or (
        list(before[1]) == list(after[1]) and all(before[1][key] is after[1][key] for key in before[1])
    )


def _restore_class(cls: type, kept: dict[str, Any]) -> list[str]:
    now = dict(vars(cls))
    # Python adds annotations when they are first read.
    names = [name for name in {**kept, **now} if not name.startswith("__annot")]
    changed = [name for name in names if kept.get(name, cls) is not now.get(name, cls)]
    for name in changed:
        if name in kept:
            setattr(cls, name, kept[name])
        else:
            delattr(cls, name)
    return changed


@torch.no_grad()
def _restore_tensor(tensor: Tensor, kept: Tensor, wanted: bool, gradient: Tensor | None) -> bool:
    alike = (tensor.shape, tensor.dtype, tensor.device) == (kept.shape, kept.dtype, kept.device)
    same = alike and (
        torch.equal(tensor, kept) or bool(((tensor == kept) | (tensor.isnan() & kept.isnan())).all())
    )
    if same and tensor.requires_grad == wanted and tensor.grad is gradient:
        return False
    if not same and alike:
        tensor.copy_(kept)
    elif not same:
        tensor.data = kept.clone()
    tensor.requires_grad_(wanted)
    tensor.grad = gradient
    return True
