"""A pretend GPU on a CPU-only machine: tensors are real CPU tensors, some storages are marked "cuda:0".

Python sees .device == cuda:0 for marked tensors; an operation that mixes a marked tensor with an unmarked one
(other than what real CUDA allows) raises DeviceMismatch. Counts syncs, copies and launches by vbench line.
"""

from __future__ import annotations

import collections
import contextlib
import traceback

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)
RealGenerator = torch._C.Generator


class DeviceMismatch(RuntimeError):
    pass


class PGenerator(RealGenerator):
    """A generator that may say it is on the GPU."""

    def __new__(cls, device="cpu"):
        self = RealGenerator.__new__(cls)
        self._pretend = torch.device(device).type
        return self

    @property
    def device(self):
        return GPU if self._pretend == "cuda" else CPU


class _Marks:
    def __init__(self):
        self.refs = {}

    def put(self, t):
        if t.layout != torch.strided:
            return
        ref = StorageWeakRef(t.untyped_storage())
        self.refs[ref.cdata] = ref
        if len(self.refs) % 5000 == 0:
            self.refs = {k: r for k, r in self.refs.items() if not r.expired()}

    def drop(self, t):
        self.refs.pop(t.untyped_storage()._cdata, None)

    def has(self, t):
        ref = self.refs.get(t.untyped_storage()._cdata)
        return ref is not None and not ref.expired()


ON_GPU, VAGUE = _Marks(), _Marks()
STATS = {
    "sync": collections.Counter(),
    "h2d": collections.Counter(),
    "d2h": collections.Counter(),
    "launch": collections.Counter(),
    "ops": collections.Counter(),
    "mismatch": collections.Counter(),
    "h2d_bytes": collections.Counter(),
    "d2h_bytes": collections.Counter(),
}
RAISE = True
STACK = []  # python-level functions being run

FACTORIES = {
    torch.zeros,
    torch.ones,
    torch.empty,
    torch.full,
    torch.arange,
    torch.rand,
    torch.randn,
    torch.randint,
    torch.randperm,
    torch.tensor,
    torch.as_tensor,
    torch.eye,
    torch.linspace,
    torch.logspace,
    torch.scalar_tensor,
    torch.empty_strided,
    torch.normal,
    torch.range,
    torch.hann_window,
    torch.asarray,
}


def is_gpu(t):
    return ON_GPU.has(t)


def is_vague(t):
    return VAGUE.has(t) and not ON_GPU.has(t)


def state(t):
    if t.device.type != "cpu" if False else t.is_meta:
        return "meta"
    return "gpu" if ON_GPU.has(t) else "vague" if VAGUE.has(t) else "cpu"


def where():
    for frame in reversed(traceback.extract_stack()[:-2]):
        f = frame.filename
        if "pretend_device.py" in f or ("/torch/" in f and "/torchattacks/" not in f):
            continue
        if any(
            k in f
            for k in (
                "/benchmark/",
                "/attacks/",
                "/victims/",
                "/reports/",
                "/torchattacks/",
                "/art/",
                "/gpu/",
                "/vbench/",
            )
        ):
            short = (
                f.split("/site-packages/")[-1].split("/src/")[-1].split("/vbench/")[-1]
                if "site-packages" not in f
                else f.split("/site-packages/")[-1]
            )
            return f"{short}:{frame.lineno}"
    return "?"


def tensors_in(tree):
    return [x for x in tree_flatten(tree)[0] if isinstance(x, Tensor)]


def _is_cuda(d):
    if d is None:
        return False
    if isinstance(d, (str, torch.device)):
        try:
            return torch.device(d).type == "cuda"
        except RuntimeError:
            return False
    return False


SYNC_OPS = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::equal",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::is_nonzero",
}
VIEWS = {
    "aten::view",
    "aten::expand",
    "aten::permute",
    "aten::transpose",
    "aten::t",
    "aten::slice",
    "aten::select",
    "aten::unsqueeze",
    "aten::squeeze",
    "aten::detach",
    "aten::alias",
    "aten::as_strided",
    "aten::split",
    "aten::unbind",
    "aten::_unsafe_view",
    "aten::_reshape_alias",
    "aten::split_with_sizes",
    "aten::diagonal",
    "aten::unfold",
    "aten::lift_fresh",
    "aten::chunk",
    "aten::view_as_real",
    "aten::view_as_complex",
    "aten::empty",
    "aten::empty_like",
    "aten::empty_strided",
    "aten::new_empty",
    "aten::new_empty_strided",
    "aten::_local_scalar_dense",
}


class Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = func._schema.name
        found = tensors_in((args, kwargs))
        states = [state(t) for t in found]
        gpu = [t for t, s in zip(found, states) if s == "gpu"]
        cpu = [t for t, s in zip(found, states) if s == "cpu"]
        if gpu and cpu and not self.allowed(func, name, args, kwargs, gpu, cpu):
            self.complain(func, " with ".join(f"{tuple(t.shape)}:{s}" for t, s in zip(found, states)))
        if gpu:
            STATS["ops"][name] += 1
            if name not in VIEWS:
                STATS["launch"][where() if DETAIL else "all"] += 1
            if (
                name in SYNC_OPS
                or (
                    name == "aten::index"
                    and any(
                        isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8)
                        for i in args[1]
                        if i is not None
                    )
                )
                or (
                    name.startswith("aten::repeat_interleave")
                    and len(args) > 1
                    and isinstance(args[1], Tensor)
                )
            ):
                STATS["sync"][f"{where()} {name}"] += 1
            if name == "aten::index_put_" or name == "aten::index_put":
                if any(
                    isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8)
                    for i in args[1]
                    if i is not None
                ):
                    STATS["sync"][f"{where()} {name} bool"] += 1
            if name == "aten::index" and any(
                isinstance(i, Tensor) and state(i) == "cpu" for i in args[1] if i is not None
            ):
                STATS["h2d"][f"{where()} index"] += 1
            if name == "aten::copy_" and cpu:
                (STATS["h2d"] if is_gpu(args[0]) else STATS["d2h"])[f"{where()} copy_"] += 1
        out = func(*args, **kwargs)
        outs = tensors_in(out)
        inplace_or_view_ids = {t.untyped_storage()._cdata for t in found if not t.is_meta}
        for t in outs:
            if t.is_meta or t.untyped_storage()._cdata in inplace_or_view_ids:
                continue
            VAGUE.drop(t)
            ON_GPU.drop(t)
            if gpu:
                ON_GPU.put(t)
            elif not found:
                # a factory: by user code on the CPU or the GPU; or inside of C++, where the real device is not known
                top = STACK[-1] if STACK else (None, False)
                if top[1]:
                    ON_GPU.put(t)
                elif STACK and top[0] not in FACTORIES:
                    VAGUE.put(t)
            elif not cpu:
                VAGUE.put(t)
        return out

    def allowed(self, func, name, args, kwargs, gpu, cpu):
        if name in ("aten::copy_", "aten::_to_copy", "aten::set_", "aten::resize_"):
            return True
        if name in ("aten::index", "aten::_unsafe_index"):
            return is_gpu(args[0])
        if name in (
            "aten::index_put_",
            "aten::index_put",
            "aten::_index_put_impl_",
            "aten::_unsafe_index_put",
        ):
            v = args[2]
            return is_gpu(args[0]) and (is_gpu(v) or is_vague(v) or v.dim() == 0)
        small = all(t.dim() == 0 for t in cpu)
        if small and (
            torch.Tag.pointwise in func.tags
            or name.rstrip("_")
            in (
                "aten::masked_fill",
                "aten::fill",
                "aten::where",
                "aten::lerp",
                "aten::scatter",
                "aten::index_fill",
            )
        ):
            return True
        if name.startswith("aten::_foreach") or name.startswith("aten::_fused_adam"):
            # lists: element i with element i
            return True
        if name == "aten::searchsorted" and small:
            return True
        return False

    def complain(self, func, text):
        line = f"{where()} {func} {text}"
        STATS["mismatch"][line] += 1
        if RAISE:
            raise DeviceMismatch(line)


DETAIL = False


class Move(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, to_gpu, dtype, memory_format):
        ctx.from_gpu, ctx.dtype = is_gpu(x), x.dtype
        with torch.no_grad():
            out = (
                torch.ops.aten._to_copy.default(x, dtype=dtype)
                if dtype is not None and dtype != x.dtype
                else x.clone(memory_format=memory_format)
            )
        ON_GPU.drop(out)
        VAGUE.drop(out)
        if to_gpu:
            ON_GPU.put(out)
        return out

    @staticmethod
    def backward(ctx, g):
        out = g.to(ctx.dtype).clone()
        ON_GPU.drop(out)
        VAGUE.drop(out)
        if ctx.from_gpu:
            ON_GPU.put(out)
        return out, None, None, None


def move(x, to_gpu, dtype=None, memory_format=torch.preserve_format, copy=False, non_blocking=False):
    if x.is_meta:
        raise NotImplementedError("meta to device")
    if is_gpu(x) == to_gpu:
        out = x.to(dtype) if dtype is not None else x
        if copy and out is x:
            out = x.clone()
        return out
    kind = "h2d" if to_gpu else "d2h"
    STATS[kind][f"{where()}"] += 1
    STATS[kind + "_bytes"][f"{where()}"] += x.numel() * x.element_size()
    wanted = x.dtype if dtype is None else dtype
    if x.requires_grad and torch.is_grad_enabled():
        return Move.apply(x, to_gpu, wanted, memory_format)
    with torch.no_grad():
        out = (
            torch.ops.aten._to_copy.default(x, dtype=wanted)
            if wanted != x.dtype
            else x.detach().clone(memory_format=memory_format)
        )
    ON_GPU.drop(out)
    VAGUE.drop(out)
    if to_gpu:
        ON_GPU.put(out)
    return out


class Function(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if (
            func is torch.device
            or func is torch._C._nn._parse_to
            or getattr(func, "__name__", "")
            in ("_parse_to", "device", "_set_grad_enabled", "_get_privateuse1_backend_name")
        ):
            return func(*args, **kwargs)
        if func == Tensor.device.__get__:
            return GPU if not args[0].is_meta and is_gpu(args[0]) else func(*args)
        if func == Tensor.is_cuda.__get__:
            return is_gpu(args[0])
        if func == Tensor.is_cpu.__get__:
            return not is_gpu(args[0]) and func(*args)
        if func is Tensor.to:
            return self.to(args, kwargs)
        if func is Tensor.cpu:
            return move(args[0], False)
        if func is Tensor.cuda:
            return move(args[0], True)
        if func is Tensor.type_as:
            return self.to((args[0], args[1]), {})
        if func is Tensor.get_device:
            return 0 if is_gpu(args[0]) else -1
        if func in (Tensor.numpy, Tensor.__array__) and is_gpu(args[0]):
            line = f"{where()} {func.__name__} of a cuda tensor"
            STATS["mismatch"][line] += 1
            if RAISE:
                raise TypeError("can't convert cuda:0 device type tensor to numpy. " + line)
        if func in (Tensor.tolist,) and is_gpu(args[0]):
            STATS["sync"][f"{where()} tolist"] += 1
        if func in (Tensor.pin_memory,):
            return args[0]
        # devices among the arguments
        wants = _is_cuda(kwargs.get("device"))
        if wants:
            kwargs["device"] = CPU
        given_cpu = kwargs.get("device") is not None and not wants
        if any(_is_cuda(a) for a in args if isinstance(a, (str, torch.device))) and func not in (
            Tensor.__format__,
        ):
            wants = True
            args = tuple(CPU if isinstance(a, (str, torch.device)) and _is_cuda(a) else a for a in args)
        generator = kwargs.get("generator") or next((a for a in args if isinstance(a, RealGenerator)), None)
        if generator is not None:
            first = next((a for a in args if isinstance(a, Tensor)), None)
            target = wants if func in FACTORIES else is_gpu(first) if first is not None else wants
            on_gpu = isinstance(generator, PGenerator) and generator._pretend == "cuda"
            if target != on_gpu:
                line = f"{where()} {getattr(func, '__name__', func)}: generator on {'cuda' if on_gpu else 'cpu'} for a tensor on {'cuda' if target else 'cpu'}"
                STATS["mismatch"][line] += 1
                if RAISE:
                    raise DeviceMismatch(line)
        if getattr(func, "__name__", "").endswith("unravel_index") and is_gpu(args[0]):
            # written in Python, it reads .device itself, where this mode is off: done on a plain copy
            plain = args[0].clone()
            ON_GPU.drop(plain)
            out = func(plain, *args[1:], **kwargs)
            for t in tensors_in(out):
                ON_GPU.put(t)
            return out
        STACK.append((func, wants))
        try:
            if func is torch.as_tensor or func is torch.asarray:
                data = args[0] if args else kwargs.get("data")
                if isinstance(data, Tensor):
                    dtype = kwargs.get("dtype")
                    if wants or given_cpu:
                        return move(data, wants, dtype)
                    return data.to(dtype) if dtype else data
            if func is torch.tensor and args and isinstance(args[0], Tensor):
                return (
                    move(args[0].detach().clone(), wants, kwargs.get("dtype"))
                    if (wants or given_cpu)
                    else args[0].detach().clone()
                )
            out = func(*args, **kwargs)
        finally:
            STACK.pop()
        if func is Tensor.new_tensor and is_gpu(args[0]) and not given_cpu:
            ON_GPU.put(out)
            VAGUE.drop(out)
        if func is Tensor.__deepcopy__ and is_gpu(args[0]):
            ON_GPU.put(out)
        if wants:
            for t in tensors_in(out):
                if not t.is_meta:
                    ON_GPU.put(t)
                    VAGUE.drop(t)
        return out

    def to(self, args, kwargs):
        x, rest = args[0], list(args[1:])
        device, dtype, copy, mf = (
            kwargs.get("device"),
            kwargs.get("dtype"),
            kwargs.get("copy", False),
            kwargs.get("memory_format", torch.preserve_format),
        )
        mf = torch.preserve_format if mf is None else mf
        other = kwargs.get("other")
        if rest and isinstance(rest[0], Tensor):
            other = rest.pop(0)
        elif rest and isinstance(rest[0], (str, torch.device, int)) and not isinstance(rest[0], bool):
            device = rest.pop(0)
        elif rest and rest[0] is None:
            rest.pop(0)
        if rest and isinstance(rest[0], torch.dtype):
            dtype = rest.pop(0)
        if other is not None:
            device, dtype = (GPU if is_gpu(other) else CPU), other.dtype
        if device is None or x.is_meta:
            wants = is_gpu(x) if not x.is_meta else False
            STACK.append((Tensor.to, False))
            try:
                out = (
                    Tensor.to(*args, **kwargs)
                    if not x.is_meta
                    else Tensor.to(
                        x,
                        *[CPU if _is_cuda(a) else a for a in args[1:]],
                        **{k: (CPU if _is_cuda(v) else v) for k, v in kwargs.items()},
                    )
                )
            finally:
                STACK.pop()
            return out
        if isinstance(device, int):
            device = torch.device("cuda", device)
        wants = torch.device(device).type == "cuda"
        out = move(x, wants, dtype, copy=copy)
        if mf not in (torch.preserve_format,):
            out = out.contiguous(memory_format=mf)
        return out


_patches = {}


class PretendAutocast(torch.amp.autocast_mode.autocast):
    def __init__(self, device_type, dtype=None, enabled=True, cache_enabled=None):
        if device_type == "cuda":
            device_type, dtype = "cpu", dtype or torch.float16
        super().__init__(device_type, dtype, enabled, cache_enabled)


class Properties:
    multi_processor_count = 132
    total_memory = 80 << 30
    major = 9
    minor = 0
    name = "PRETEND"


@contextlib.contextmanager
def pretend():
    """Inside the block there is a GPU."""
    cuda = torch.cuda
    values = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_name": lambda *a: "PRETEND H100",
        "synchronize": lambda *a: None,
        "reset_peak_memory_stats": lambda *a: None,
        "max_memory_allocated": lambda *a: 12345,
        "default_generators": (torch._C.Generator(),),
        "memory_allocated": lambda *a: 12000,
        "mem_get_info": lambda *a: (70 << 30, 80 << 30),
        "_exchange_device": lambda index: 0 if index >= 0 else -1,
        "_maybe_exchange_device": lambda index: index,
        "empty_cache": lambda: None,
        "is_bf16_supported": lambda *a, **k: True,
        "set_device": lambda *a: None,
        "current_device": lambda: 0,
        "get_rng_state": lambda *a: torch.get_rng_state(),
        "set_rng_state": lambda *a: None,
        "get_device_properties": lambda *a: Properties,
        "get_device_capability": lambda *a: (9, 0),
        "manual_seed": lambda s: None,
        "manual_seed_all": lambda s: None,
        "_lazy_init": lambda: None,
        "is_initialized": lambda: True,
        "is_current_stream_capturing": lambda: False,
    }
    saved = {name: getattr(cuda, name) for name in values}
    gen, auto, seed = torch.Generator, torch.autocast, torch.cuda.random.manual_seed
    torch.cuda.random.manual_seed = lambda seed: None
    name, optimizer = "_accelerator_graph_capture_health_check", torch.optim.Optimizer
    check = getattr(optimizer, name, None)
    if check is not None:
        setattr(optimizer, name, lambda self: None)
    for name, value in values.items():
        setattr(cuda, name, value)
    torch.Generator, torch.autocast = PGenerator, PretendAutocast
    try:
        with Dispatch(), Function():
            yield
    finally:
        for name, value in saved.items():
            setattr(cuda, name, value)
        torch.Generator, torch.autocast, torch.cuda.random.manual_seed = gen, auto, seed
        if check is not None:
            optimizer._accelerator_graph_capture_health_check = check


def reset():
    for c in STATS.values():
        c.clear()
