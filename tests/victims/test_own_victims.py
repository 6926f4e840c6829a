"""A victim of one's own: any number of classes, any names, and one line for what could not be evaluated."""

from __future__ import annotations

import pytest
import torch
from own_victim import SIZE, Mine
from torch import nn
from torch.nn.utils import parametrizations

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.run.craft import Meter
from vbench.victims.agw import AGW
from vbench.victims.base import with_classes
from vbench.victims.build import read_victim
from vbench.victims.checkpoint import check_storable, read_checkpoint, sha256_of, write_checkpoint
from vbench.victims.load import build_victim, check_victim, load_victim
from vbench.victims.precision import Precision, compute_in
from vbench.victims.released import ReleasedLayout


def saved(tmp_path, state):
    torch.save(state, tmp_path / "w.pth")
    return tmp_path / "w.pth"


@pytest.mark.parametrize("classes", [1, 8, 10, 395, 1000])
def test_the_number_of_classes_is_read_off_whatever_classifier(tmp_path, classes):
    state = Mine(num_classes=classes).state_dict()
    victim = build_victim(Mine, saved(tmp_path, state), device="cpu")
    assert victim.num_classes == classes
    assert sha256_of(victim.state_dict()) == sha256_of(state)
    assert build_victim(Mine, tmp_path / "w.pth", classes, device="cpu").num_classes == classes
    with pytest.raises(BadInput, match=f"knows {classes} identities, not 11; another split"):
        build_victim(Mine, tmp_path / "w.pth", 11, device="cpu")


def test_several_classifiers_must_agree(tmp_path):
    class Two(Mine):
        def __init__(self, *, num_classes: int = 395) -> None:
            super().__init__(num_classes=num_classes)
            self.infrared = nn.Linear(8, num_classes, bias=False)

    state = Two(num_classes=10).state_dict()
    assert build_victim(Two, saved(tmp_path, state), device="cpu").num_classes == 10
    state["infrared.weight"] = torch.ones(11, 8)
    with pytest.raises(BadInput, match=r"wrong shape.*infrared\.weight"):
        build_victim(Two, saved(tmp_path, state), device="cpu")


def test_another_size_is_not_taken_for_another_number_of_classes(tmp_path):
    state = Mine(num_classes=10, width=4).state_dict()
    with pytest.raises(BadInput, match="wrong shape"):
        build_victim(Mine, saved(tmp_path, state), device="cpu")
    # Eight channels, and eight classes by default: every size that differs could be either.
    with pytest.raises(BadInput, match="wrong shape"):
        build_victim(Mine, tmp_path / "w.pth", 8, device="cpu")
    assert build_victim(Mine, tmp_path / "w.pth", device="cpu", width=4).num_classes == 10


def test_a_constructor_may_want_the_number_or_not_know_it(tmp_path):
    class Wants(Mine):
        def __init__(self, num_classes) -> None:
            super().__init__(num_classes=num_classes)

    class Fixed(Mine):
        def __init__(self) -> None:
            super().__init__(num_classes=12)

    path = saved(tmp_path, Mine(num_classes=12).state_dict())
    assert build_victim(Wants, path, device="cpu").num_classes == 12
    assert build_victim(Wants, num_classes=5, device="cpu").num_classes == 5
    with pytest.raises(BadInput, match=r"needs num_classes, as in mine\[num_classes="):
        build_victim(Wants, device="cpu")
    assert build_victim(Fixed, path, device="cpu").num_classes == 12
    assert build_victim(Fixed, path, 12, device="cpu").num_classes == 12
    with pytest.raises(BadInput, match="knows 12 identities, whatever num_classes"):
        build_victim(Fixed, num_classes=7, device="cpu")
    other = saved(tmp_path, Mine(num_classes=10).state_dict())
    with pytest.raises(BadInput, match=r"knows 10 identities: give the class an option num_classes"):
        build_victim(Fixed, other, device="cpu")


def test_a_class_may_say_which_its_classifier_is_and_what_it_never_uses(tmp_path):
    class Said(Mine):
        released = ReleasedLayout(classifier="head.weight", unused=(r"^projector\.",))

    class Headless(Mine):
        released = ReleasedLayout(unused=(r"^head\.",))

        def __init__(self) -> None:
            super().__init__()
            self.num_classes = 0
            del self.head

    state = {**Mine(num_classes=10).state_dict(), "projector.weight": torch.ones(3)}
    assert build_victim(Said, saved(tmp_path, state), device="cpu").num_classes == 10
    del state["projector.weight"]
    assert build_victim(Headless, saved(tmp_path, state), device="cpu").num_classes == 0


def test_a_network_named_like_a_plain_resnet_is_ones_own(tmp_path):
    class Like(Mine):
        def __init__(self, *, num_classes: int = 395) -> None:
            super().__init__(num_classes=num_classes)
            del self.blocks, self.head
            self.conv1, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(4, num_classes)
            self.layer4 = nn.Sequential(nn.ModuleDict({"conv1": nn.Conv2d(4, 4, 1)}))

    state = Like(num_classes=10).state_dict()
    assert build_victim(Like, saved(tmp_path, state), device="cpu").num_classes == 10
    with pytest.raises(BadInput, match="looks like a plain ImageNet ResNet, not like a checkpoint of mine"):
        build_victim(Mine, tmp_path / "w.pth", device="cpu")


def test_the_number_of_classes_is_an_option_of_the_text():
    assert read_victim("agw[num_classes=10]").options == {"num_classes": 10}
    for text in ("agw[num_classes=ten]", "agw[num_classes=1.5]"):
        with pytest.raises(BadInput, match="num_classes="):
            read_victim(text)
    with pytest.raises(BadInput, match="did you mean 'num_classes'"):
        read_victim("agw[num_clases=10]")
    small = {"width": 0.0625, "blocks": (1, 1, 1, 1), "input_size": (32, 16)}
    assert load_victim("agw", num_classes=10, device="cpu", **small).num_classes == 10
    with pytest.raises(BadInput, match="num_classes=10: trained on 12 identities"):
        with_classes(AGW, {"num_classes": 10}, 12)
    assert with_classes(AGW, {"num_classes": 12}, 12) == with_classes(AGW, {}, 12) == {"num_classes": 12}


def test_options_without_annotations_take_the_type_of_their_default(tmp_path):
    file = tmp_path / "loose.py"
    file.write_text(
        "from __future__ import annotations\n"
        "from own_victim import Mine\n"
        "class Loose(Mine):\n"
        "    name = 'loose'\n"
        "    def __init__(self, num_classes=5, width=8, extra: Unknown = None):\n"
        "        super().__init__(num_classes=num_classes, width=width)\n"
        "        self.extra = extra\n"
    )
    spec = read_victim(f"{file}:Loose[num_classes=7,width=4]")
    assert spec.options == {"num_classes": 7, "width": 4}
    assert load_victim(spec.name, device="cpu", **spec.options).num_classes == 7


def test_a_constructor_that_fails_is_one_line():
    class Broken(Mine):
        def __init__(self, *, num_classes: int = 3) -> None:
            raise ZeroDivisionError("no\nwidth")

    with pytest.raises(BadInput, match=r"victim 'mine'.*ZeroDivisionError") as caught:
        build_victim(Broken, device="cpu")
    assert "\n" not in str(caught.value) and "test_own_victims.py" in str(caught.value)


class ExtraState(Mine):
    def __init__(self) -> None:
        super().__init__(num_classes=5)
        self.late = Scaled()


class Scaled(nn.Module):
    def get_extra_state(self):
        return {"scale": 1.0}

    def set_extra_state(self, state):
        pass


def _with(**attributes):
    victim = Mine(num_classes=5)
    for name, value in attributes.items():
        setattr(victim, name, value)
    return victim


def _lazy():
    return _with(lazy=nn.LazyLinear(3))


def _sparse():
    victim = Mine(num_classes=5)
    victim.register_buffer("graph", torch.eye(3).to_sparse())
    return victim


class NoOption(Mine):
    def __init__(self, depth: int = 2) -> None:
        super().__init__(num_classes=5)


class OddOption(Mine):
    def __init__(self, depth: object = None) -> None:
        super().__init__(num_classes=5)
        self.depth = depth


class NoName(Mine):
    name = None


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: _with(num_classes="10"), "'num_classes' must be the number of training identities"),
        (lambda: _with(num_classes=-1), "'num_classes'"),
        (lambda: _with(num_classes=True), "'num_classes'"),
        (lambda: _with(input_size=64), "'input_size' must be"),
        (lambda: _with(input_size=(64,)), "'input_size'"),
        (lambda: _with(input_size=(64.0, 32.0)), "'input_size'"),
        (lambda: _with(input_size="64x32"), "'input_size'"),
        (lambda: _with(embedding_dim=None), "'embedding_dim'"),
        (lambda: _with(similarity="l2"), "'similarity' must be one of cosine"),
        (lambda: _with(resize_filter="nearest"), "'resize_filter' must be one of lanczos"),
        (lambda: _with(stages="layer1"), "'stages'"),
        (lambda: _with(stages=("a", "a")), "'stages' must be different names"),
        (lambda: _with(stages=None), "'stages'"),
        (_lazy, "lazy parameters"),
        (_sparse, "'graph' of its state dict is sparse"),
        (lambda: Mine(num_classes=5).to("meta"), "no values"),
        (ExtraState, r"'late\._extra_state' of its state dict is no tensor but a dict"),
        (NoOption, "keep option 'depth' as an attribute"),
        (lambda: OddOption(depth=torch.ones(1)), "plain values"),
        (NoName, "NoName has no name"),
    ],
    ids=range(20),
)
def test_what_could_not_be_evaluated_is_one_line(make, reason):
    with pytest.raises(BadInput, match=reason) as caught:
        check_victim(make())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_what_is_odd_and_works_is_let_through():
    class Plain(Mine):
        """Says nothing of classes: it has none."""

        def __init__(self) -> None:
            super().__init__()
            del self.num_classes, self.head, self.embedding_dim

    for victim in (
        Plain(),
        _with(input_size=list(SIZE), stages=["early"]),
        _with(extra=nn.Parameter(torch.ones(2, dtype=torch.float64))),
        _with(tied=nn.ParameterList([torch.ones(2)] * 2)),
    ):
        check_victim(victim)
    assert Plain().num_classes == 0
    for name, buffer in {
        "complex": torch.ones(2, dtype=torch.complex64),
        "whole": torch.ones(2, dtype=torch.int32),
        "none": torch.ones(0, 3),
        "bits": torch.tensor(True),
    }.items():
        victim = Mine(num_classes=5)
        victim.register_buffer(name, buffer)
        check_victim(victim)


_TYPES = [
    torch.bool,
    *(getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)),
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
]


@pytest.mark.parametrize("dtype", _TYPES, ids=str)
def test_the_hash_tells_values_of_every_type(dtype):
    values = torch.tensor([0, 1, 1, 0]).to(dtype)
    other = torch.tensor([0, 1, 1, 1]).to(dtype)
    assert sha256_of({"a": values}) == sha256_of({"a": values.clone()}) != sha256_of({"a": other})
    assert sha256_of({"a": values[1]}) == sha256_of({"a": values[2]}) != sha256_of({"a": values[0]})
    assert sha256_of({"a": values[:0]}) != sha256_of({"a": values})
    assert sha256_of({"a": values[:0]}) != sha256_of({"a": values.view(2, 2)[:0]})
    strided = torch.stack([values, other], 1)
    assert sha256_of({"a": strided[:, 0]}) == sha256_of({"a": values})


def test_the_hash_sees_through_lazy_conjugates():
    values = torch.tensor([1 + 2j, 3 - 1j])
    assert sha256_of({"a": values.conj()}) == sha256_of({"a": torch.tensor([1 - 2j, 3 + 1j])})
    assert sha256_of({"a": values.conj()}) != sha256_of({"a": values})


class Tied(Mine):
    """Tensors that share memory: the same parameter twice, a view, a transposed buffer."""

    def __init__(self, *, num_classes: int = 5) -> None:
        super().__init__(num_classes=num_classes)
        self.again = self.blocks["late"]
        self.register_buffer("part", self.head.weight.detach()[:2])
        self.register_buffer("turned", torch.arange(6.0).view(2, 3).T)
        parametrizations.weight_norm(self.blocks["last"])


def test_tensors_that_share_memory_are_saved_and_come_back(tmp_path):
    victim = Tied()
    state = victim.state_dict()
    facts = {"victim": "mine", "options": victim.describe(), "sha256": sha256_of(state)}
    write_checkpoint(tmp_path / "w.safetensors", state, facts)
    read = read_checkpoint(tmp_path / "w.safetensors")
    assert sha256_of(read.state) == sha256_of(state) == read.metadata["sha256"]
    again = build_victim(Tied, tmp_path / "w.safetensors", device="cpu")
    assert sha256_of(again.state_dict()) == sha256_of(state)
    assert again.again is again.blocks["late"]
    torch.save(state, tmp_path / "w.pth")
    assert sha256_of(build_victim(Tied, tmp_path / "w.pth", device="cpu").state_dict()) == sha256_of(state)


def test_what_no_weights_file_holds_is_refused_before_it_is_needed():
    with pytest.raises(BadInput, match=r"x: a weights file cannot hold all of torch\.complex128"):
        check_storable({"a": torch.ones(2, dtype=torch.complex128)}, "x")
    with pytest.raises(BadInput, match="'a' of its state dict is no tensor"):
        check_storable({"a": 3}, "x")


def images(count=2):
    return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(0))


class Asks(Mine):
    """Asks for its modality the way that text slips through."""

    def forward(self, images, modality, edits=None):
        assert type(modality) is Modality
        return super().forward(images if modality is Modality.VISIBLE else 1 - images, modality, edits)


def test_a_modality_may_be_its_text_and_nothing_else():
    victim = Asks(num_classes=5).eval()
    for modality in Modality:
        wanted = victim(images(), modality)
        for found in (victim(images(), modality.value), victim(images=images(), modality=modality.value)):
            assert torch.equal(found.embedding, wanted.embedding)
    for odd in ("Visible", "rgb", "", 0, None, 1.5, torch.ones(1), ["visible"]):
        with pytest.raises(BadInput, match="mine: a modality is 'visible' or 'infrared', not"):
            victim(images(), odd)


def test_hooks_precision_and_counting_see_the_modality_as_it_is():
    victim, seen = Asks(num_classes=5).eval(), []
    victim.register_forward_pre_hook(lambda module, given: seen.append(given[1]))
    compute_in(victim, Precision("bfloat16"))
    with Meter(victim) as meter, torch.no_grad():
        victim(images(3), "infrared")
    assert meter.forwards == 3 and seen[0] is Modality.INFRARED
    compute_in(victim, Precision())
    with Meter(victim) as meter:
        victim(images(3), "infrared", {"late": lambda current: current})
    assert meter.evaluations == 3
