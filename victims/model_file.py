"""Victims in a file: a program of ``torch.export`` (``model.pt2``), or a network in ONNX (``model.onnx``)."""

from __future__ import annotations

import hashlib
import io
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vbench.core.errors import BadInput, shortened
from vbench.core.plugins import made_by_vbench
from vbench.victims.layers import IMAGENET_MEAN, IMAGENET_STD
from vbench.victims.wrap import Channels, Wrapped


class ModelFile(Wrapped):
    """A victim whose network is in :attr:`file`; :func:`model_file` makes a class for each.

    The network takes one tensor, N x 3 x H x W normalised images, and returns the N x D embedding.
    """

    file: ClassVar[Path]
    _hint = ""
    #: What its records say of the file.
    remark: ClassVar[str]

    def __init__(
        self,
        *,
        input_size: tuple[int, int] | None = None,
        mean: Channels = IMAGENET_MEAN,
        std: Channels = IMAGENET_STD,
        similarity: str = "cosine",
        stages: tuple[str, ...] | str | None = None,
        resize_filter: str = "bilinear",
    ) -> None:
        content = self.file.read_bytes()
        #: The first 16 hexadecimal digits of the SHA-256 of the file.
        self.content = hashlib.sha256(content).hexdigest()[:16]
        self.remarks = (f"{self.name} (SHA-256 {self.content}...) {self.remark}",)
        module, size = self.read(content)
        if None in (size := input_size or size):
            raise BadInput(
                f"{self.file} takes images of any size: say which, as in {self.file}[input_size=256x128]"
            )
        super().__init__(
            module.eval(), None, self.file.name, size, mean, std, similarity, stages, resize_filter
        )

    @classmethod
    @abstractmethod
    def read(cls, content: bytes) -> tuple[nn.Module, Any]:
        """The network of a file, and the height and width of its images, None where it takes any."""

    def describe(self) -> dict[str, object]:
        """Its options, and the hash of the file."""
        return {**super().describe(), "file": self.content}


class Program(ModelFile):
    """A program of ``torch.export``: code, so that it runs only where the user allows it."""

    version: ClassVar[int] = 1
    summary = "a program of torch.export"
    runs_code = True
    remark = "is a program, run with --allow-code"

    @classmethod
    def read(cls, content: bytes) -> tuple[nn.Module, Any]:
        from torch.export import load, unflatten

        try:
            program = load(io.BytesIO(content))
            module = unflatten(program)
        except Exception as error:  # a file that is no program can fail in any way
            raise BadInput(f"{cls.file}: not a program of torch.export ({_line(error)})") from error
        given = program.graph_signature.user_inputs
        inputs = [node.meta["val"] for node in program.graph.nodes if node.name in given]
        for one in module.modules():
            # What the exporter noted holds tensors that cannot be copied.
            for node in getattr(getattr(one, "graph", None), "nodes", ()):
                node.meta.clear()
        shapes = [tuple(getattr(one, "shape", ())) for one in inputs]
        return module, _size(cls.file, shapes)


class ONNX(ModelFile):
    """A network in ONNX, run by onnxruntime on the CPU: data, but without gradients."""

    #: Its version is part of what identifies the code.
    library: ClassVar[str] = "onnxruntime"

    version: ClassVar[int] = 1
    summary = "a network in ONNX, for black-box attacks"
    gradients = False
    remark = "gives no gradients: black-box attacks only"

    @classmethod
    def read(cls, content: bytes) -> tuple[nn.Module, Any]:
        module = _Session(cls.file, content)
        return module, _size(cls.file, [tuple(one.shape) for one in module.session.get_inputs()])


#: How an ONNX file names another one that holds weights (StringStringEntryProto, key "location").
_EXTERNAL = b"\x0a\x08location\x12"


class _Session(nn.Module):
    """A session of onnxruntime as a module; copies share it, since it has no state."""

    def __init__(self, file: Path, content: bytes) -> None:
        super().__init__()
        try:
            from onnxruntime import InferenceSession, SessionOptions
        except ImportError as error:
            raise BadInput(f"{file} needs onnxruntime: pip install onnxruntime") from error
        if _EXTERNAL in content:
            raise BadInput(f"{file} keeps weights in other files; store them in the file itself")
        options = SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.use_deterministic_compute = True
        options.log_severity_level = 4
        try:
            # From the bytes that were hashed.
            self.session = InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # a file that is no network can fail in any way
            raise BadInput(f"{file}: not a network that onnxruntime can run ({_line(error)})") from error
        if len(self.session.get_outputs()) != 1:
            raise BadInput(f"{file} has {len(self.session.get_outputs())} outputs; keep the embedding alone")

    def __deepcopy__(self, memo: dict[int, Any]) -> _Session:
        return self

    def forward(self, images: Tensor) -> Tensor:
        given = {self.session.get_inputs()[0].name: images.detach().cpu().numpy()}
        return torch.from_numpy(self.session.run(None, given)[0]).to(images.device)


def _line(error: Exception) -> str:
    return shortened(" ".join(str(error).split()) or type(error).__name__, 160)


def _size(file: Path, shapes: list[tuple[Any, ...]]) -> tuple[int | None, int | None]:
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise BadInput(f"{file} takes inputs of {shapes}, not one of images, N x 3 x H x W")
    batch, _, *sides = shapes[0]
    if isinstance(batch, int):
        raise BadInput(f"{file} takes {batch} images at a time; export it with a batch of any size")
    height, width = (side if isinstance(side, int) else None for side in sides)
    return height, width


KINDS: dict[str, type[ModelFile]] = {".pt2": Program, ".onnx": ONNX}


def model_file(file: str) -> type[ModelFile]:
    """The victim class of a model file; reads nothing yet. BadInput if there is no such file."""
    path = Path(file).expanduser()
    if not path.is_file():
        raise BadInput(f"victim: no such file: {shortened(file)}")
    base = KINDS[path.suffix]
    facts = {"name": path.name, "file": path, "version": base.version, "__module__": base.__module__}
    made = type(base.__name__, (base,), facts)
    made_by_vbench.add(made)
    return made
