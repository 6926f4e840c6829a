"""A look at a pickle before it is read: what it asks for, and how much work reading it would be.

torch's restricted reader runs no foreign code, but a few hundred bytes can keep it busy for years (tuples
that share tuples, as names in a dict) or let it ask for any amount of memory.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO

import torch

from vbench.errors import BadInput, shortened
from vbench.victims.formats import SAVE_THE_STATE

#: What may be called: it makes no more than the file holds.
_CALLED = frozenset(
    {
        "collections.OrderedDict",
        "collections.Counter",
        "builtins.set",
        "builtins.complex",
        "_codecs.encode",
        "torch.Size",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
        "torch._tensor._rebuild_from_type_v2",
        "numpy.dtype",
        *(
            f"numpy.{core}.multiarray.{name}"
            for core in ("core", "_core")
            for name in ("_reconstruct", "scalar")
        ),
        *(
            f"torch._utils._rebuild_{name}"
            for name in (
                "tensor",
                "tensor_v2",
                "tensor_v3",
                "parameter",
                "parameter_with_state",
                "sparse_tensor",
                "qtensor",
                "meta_tensor_no_storage",
                "nested_tensor",
                "device_tensor_from_cpu_tensor",
                "device_tensor_from_numpy",
            )
        ),
    }
)
#: What may only be named, as the type of something.
_NAMED = frozenset(
    {"numpy.ndarray", "torch.Tensor", "torch.storage.TypedStorage", "torch.storage.UntypedStorage"}
)
_ENCODINGS = ("latin1", "latin-1")

#: Values that may be looked at for each instruction of the file, and for a file as such.
_EACH, _ANYWAY = 50, 1_000_000

_ONE = frozenset(
    [
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "EMPTY_TUPLE",
        "EMPTY_LIST",
        "EMPTY_DICT",
        "EMPTY_SET",
        "BININT",
        "BININT1",
        "BININT2",
        "BINFLOAT",
        "LONG1",
        "BINUNICODE",
        "SHORT_BINSTRING",
    ]
)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass
class _Value:
    """What the pickle makes: how many values it holds, shared ones each time, and a few facts about it."""

    size: int = 1
    text: str = ""
    name: str = ""
    parts: tuple[_Value, ...] = ()


def check_pickle(file: IO[bytes], where: str) -> None:
    """Raise BadInput, in one line that begins with ``where``, for a pickle that asks for too much.

    That is for anything but tensors, plain values and numpy arrays, or for more work than a file of its size
    can be worth. Reads ``file`` to the end of one pickle.
    """
    reading = _Reading(where)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            reading.step(opcode.name, argument)
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise BadInput(f"{where}: damaged or incomplete ({shortened(str(error))}); get it again") from error


class _Reading:
    """The stack of a pickle reader, with sizes in the place of values."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._stack: list[_Value] = []
        self._marks: list[int] = []
        self._memo: dict[int, _Value] = {}
        self._steps = self._spent = 0
        self._do: dict[str, Callable[[], None]] = {
            "MARK": lambda: self._marks.append(len(self._stack)),
            "TUPLE": lambda: self._tuple(self._since_mark()),
            "APPEND": lambda: self._put_in(self._take(1)),
            "APPENDS": lambda: self._put_in(self._since_mark()),
            "SETITEM": lambda: self._put_in(self._take(2), named=True),
            "SETITEMS": lambda: self._put_in(self._since_mark(), named=True),
            "REDUCE": self._call,
            "NEWOBJ": self._call,
            "BUILD": lambda: self._spend(self._take(1)),
            "BINPERSID": lambda: self._stack.append(_Value(self._take(1)[0].size)),
            "STOP": lambda: None,
            "PROTO": lambda: None,
        }

    def step(self, name: str, argument: object) -> None:
        self._steps += 1
        if name in _ONE:
            self._stack.append(_Value(text=argument if isinstance(argument, str) else ""))
        elif name in _TUPLES:
            self._tuple(self._take(_TUPLES[name]))
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name == "GLOBAL":
            self._stack.append(_Value(name=self._allowed(str(argument).replace(" ", "."))))
        elif name in self._do:
            self._do[name]()
        else:
            raise BadInput(
                f"{self._where}: written with a pickle protocol that torch's safe reader does not know "
                f"({name}); save it again with torch.save(state, file)"
            )

    def _take(self, count: int) -> list[_Value]:
        if len(self._stack) < count + (self._marks[-1] if self._marks else 0):
            raise ValueError("its pickle takes more than it made")
        taken = self._stack[-count:]
        del self._stack[-count:]
        return taken

    def _since_mark(self) -> list[_Value]:
        mark = self._marks.pop()
        taken = self._stack[mark:]
        del self._stack[mark:]
        return taken

    def _tuple(self, parts: list[_Value]) -> None:
        made = _Value(1 + sum(part.size for part in parts), parts=tuple(parts))
        self._spend([made])
        self._stack.append(made)

    def _put_in(self, parts: list[_Value], named: bool = False) -> None:
        # A name is hashed: all it holds is looked at, each time.
        self._spend(parts[::2] if named else ())
        self._stack[-1].size += sum(part.size for part in parts)

    def _call(self) -> None:
        called, given = self._take(2)
        if called.name not in _CALLED:
            raise self._refusal(called.name or "a value that is called")
        parts = given.parts
        if called.name == "torch._tensor._rebuild_from_type_v2" and (parts[0].name not in _CALLED):
            raise self._refusal(parts[0].name)
        if called.name == "_codecs.encode" and (len(parts) != 2 or parts[1].text not in _ENCODINGS):
            raise self._refusal(called.name)
        self._spend([given])
        self._stack.append(_Value(given.size))

    def _allowed(self, name: str) -> str:
        module, _, last = name.rpartition(".")
        kind = getattr(torch, last, None) if module == "torch" else None
        storage = module in ("torch", "torch.cuda") and last.endswith("Storage")
        facts = (torch.dtype, torch.qscheme, torch.layout)
        if name in _CALLED or name in _NAMED or storage or isinstance(kind, facts):
            return name
        raise self._refusal(name)

    def _spend(self, values: Iterable[_Value]) -> None:
        self._spent += sum(value.size for value in values)
        if self._spent > _ANYWAY + _EACH * self._steps:
            raise BadInput(
                f"{self._where}: refused, its values share values without end; nobody needs such a file"
            )

    def _refusal(self, name: str) -> BadInput:
        return BadInput(
            f"{self._where}: refused, it holds more than tensors, numbers and numpy arrays "
            f"({shortened(name)}); nothing of it was run; {SAVE_THE_STATE}"
        )
