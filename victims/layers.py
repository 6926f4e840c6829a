"""Layers that victims share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from vbench.core.errors import BadInput, unknown_name
from vbench.core.types import Modality
from vbench.victims.losses import Pair, widen
from vbench.victims.training.batches import drop_elements

_EPSILON = 1e-12


def gem_pool(features: Tensor, p: float = 3.0) -> Tensor:
    """Generalised-mean pooling of a non-negative N x C x h x w map: ``(mean(x^p) + 1e-12)^(1/p)``, N x C.

    ``p = 1`` is average pooling, ``p`` to infinity maximum pooling. Source: Radenovic et al., TPAMI 2019,
    equation 3; the constant is that of the released AGW code.
    """
    return (features.flatten(2).pow(p).mean(dim=2) + _EPSILON).pow(1.0 / p)


def bn_neck(dim: int) -> nn.BatchNorm1d:
    """A BatchNorm1d over N x ``dim`` whose shift exists in checkpoints but is not trained.

    Source: Luo et al., Bag of Tricks, CVPRW 2019 (BNNeck).
    """
    neck = nn.BatchNorm1d(dim)
    neck.bias.requires_grad_(False)
    return neck


def l2_normalise(vectors: Tensor) -> Tensor:
    """Divide each row of an N x D tensor by its Euclidean length.

    No epsilon, as in the released code of AGW and its successors: a zero row becomes NaN, which the benchmark
    refuses, instead of an embedding with equal distances to all others.
    """
    return vectors / vectors.pow(2).sum(dim=1, keepdim=True).sqrt()


IMAGENET_MEAN = (0.485, 0.456, 0.406)

IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalise(nn.Module):
    """``(images - mean) / std`` per channel for N x 3 x H x W images in [0, 1]; never in place.

    Mean and standard deviation are not part of the state dict: released checkpoints do not hold them.
    """

    def __init__(
        self,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return a new tensor of the same shape."""
        return (images - self.mean) / self.std


#: Strides of layer1 ... layer4; the last is 1 (not ImageNet's 2) to keep a finer map for re-identification.
_STRIDES = (1, 2, 2, 1)

STAGES = ("layer1", "layer2", "layer3", "layer4")

#: Kinds of residual block; "basic" has no fourfold widening, the most expensive part of a thin trunk.
BLOCKS = {"bottleneck": Bottleneck, "basic": BasicBlock}


class Stem(nn.Module):
    """The layers before layer1: N x 3 x H x W to N x ``channels`` x H/4 x W/4.

    ``small`` is for images of 64x32: a 5x5 convolution at full resolution, then pooling, so H/2 x W/2.
    """

    def __init__(self, channels: int, small: bool = False) -> None:
        super().__init__()
        kernel, stride = (5, 1) if small else (7, 2)
        self.conv1 = nn.Conv2d(3, channels, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Apply convolution, normalisation, ReLU and pooling."""
        return self.pool(self.relu(self.bn1(self.conv1(images))))


class ResidualStages(nn.Module):
    """``layer1`` ... ``layer4`` of ResNet-50, with the last stride removed.

    ``width`` scales every channel count (1.0 is ResNet-50), ``blocks`` are the numbers of residual blocks per
    stage, ``block`` their kind, ``stages`` the number of stages. ``stems`` names the stems; they become
    attributes. ``channels`` maps "stem" and each stage to its output channels.
    """

    def __init__(
        self,
        width: float = 1.0,
        blocks: Sequence[int] = (3, 4, 6, 3),
        block: str = "bottleneck",
        stages: int = 4,
        stems: Sequence[str] = (),
        small_stem: bool = False,
    ) -> None:
        super().__init__()
        if block not in BLOCKS:
            raise unknown_name("residual block", block, BLOCKS)
        planes = [round(base * width) for base in (64, 128, 256, 512)]
        if len(blocks) != 4 or min(blocks) < 1:
            raise BadInput(f"blocks must be four positive numbers, one per stage, got {tuple(blocks)}")
        if planes[0] < 1:
            raise BadInput(f"width {width} leaves no channel; use at least {1 / 64}")
        self.channels = {"stem": planes[0]}
        for stem in stems:
            setattr(self, stem, Stem(planes[0], small_stem))
        incoming = planes[0]
        shapes = list(zip(STAGES, planes, blocks, _STRIDES, strict=True))
        for stage, out, count, stride in shapes[:stages]:
            setattr(self, stage, _make_stage(BLOCKS[block], incoming, out, count, stride))
            incoming = out * BLOCKS[block].expansion
            self.channels[stage] = incoming

    def stage(self, name: str, features: Tensor, after: Mapping[int, nn.Module] | None = None) -> Tensor:
        """Run one stage; ``after`` maps a block's index to a module applied to its output."""
        for index, block in enumerate(getattr(self, name)):
            features = block(features)
            if after and index in after:
                features = after[index](features)
        return features


def _make_stage(
    block: type[BasicBlock] | type[Bottleneck], incoming: int, planes: int, count: int, stride: int
) -> nn.Sequential:
    out = planes * block.expansion
    shortcut = None
    if stride != 1 or incoming != out:
        convolution = nn.Conv2d(incoming, out, kernel_size=1, stride=stride, bias=False)
        shortcut = nn.Sequential(convolution, nn.BatchNorm2d(out))
    first = block(incoming, planes, stride, shortcut)
    return nn.Sequential(first, *(block(out, planes) for _ in range(count - 1)))


class NonLocal(nn.Module):
    """``x + BN(W y)`` with ``y_i = 1/N sum_j theta(x_i) phi(x_j) g(x_j)`` over the N positions of a map.

    All projections are 1x1 convolutions to ``inner`` channels. The released AGW code uses one inner
    channel and divides by N where Wang et al. (CVPR 2018, equation 6 with the dot-product kernel) may use
    a softmax. Maps are N x ``channels`` x h x w and keep their shape.
    """

    def __init__(self, channels: int, inner: int = 1) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, inner, kernel_size=1)
        self.phi = nn.Conv2d(channels, inner, kernel_size=1)
        self.g = nn.Conv2d(channels, inner, kernel_size=1)
        self.project = nn.Conv2d(inner, channels, kernel_size=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return the map with the non-local term added."""
        batch, _, height, width = features.shape
        theta = self.theta(features).flatten(2)
        phi = self.phi(features).flatten(2)
        g = self.g(features).flatten(2)
        # phi g^T first: it is inner x inner, where theta^T phi would be positions x positions.
        mixed = (phi @ g.transpose(1, 2)) / (height * width)
        y = (theta.transpose(1, 2) @ mixed).transpose(1, 2).reshape(batch, -1, height, width)
        return features + self.norm(self.project(y))


#: A gate has this many times fewer hidden channels.
_REDUCTION = 16


class ChannelGate(nn.Module):
    """N x C x h x w to N x C x 1 x 1 in (0, 1): average, two 1x1 convolutions without biases, sigmoid.

    Source: Hu et al., CVPR 2018 (squeeze and excitation).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // _REDUCTION)
        self.squeeze = nn.Conv2d(channels, hidden, kernel_size=1, bias=False)
        self.excite = nn.Conv2d(hidden, channels, kernel_size=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """The gates."""
        # Not mean(): instance normalisation would make the difference to the authors' order of summation
        # visible.
        average = F.avg_pool2d(features, features.shape[2:])
        return self.excite(F.relu(self.squeeze(average))).sigmoid()


class PartAttention(nn.Module):
    """Refines a vector by attention between the horizontal stripes of its map.

    The ``count`` stripes of an N x ``channels`` x h x w map are average pooled; each attends to all by
    ``softmax(q k^T) v``, without scaling of the product. Their mean, weighted by softmax(gate), is added to
    the vector, and the sum goes through a batch normalisation. Source: Ye et al., ECCV 2020, section 3.2;
    the vector added is the one after the neck, as in the released code.
    """

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels, kernel_size=1)
        self.key = nn.Conv2d(channels, channels, kernel_size=1)
        self.value = nn.Conv2d(channels, channels, kernel_size=1)
        self.gate = nn.Parameter(torch.empty(count))
        self.neck = bn_neck(channels)

    def draw_weights(self, generator: torch.Generator) -> None:
        """Start with stripes of equal weight; uses no random numbers."""
        nn.init.constant_(self.gate, 1 / len(self.gate))

    def forward(self, features: Tensor, vectors: Tensor) -> Tensor:
        """Return N x ``channels`` refined ``vectors`` (N x ``channels``) of the maps ``features``."""
        stripes = F.adaptive_avg_pool2d(features, (len(self.gate), 1))
        query, key, value = (
            layer(stripes).squeeze(3).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        # Not a matrix product, which in half precision would round the unscaled, large scores.
        scores = (query[:, :, None] * key[:, None]).sum(dim=3)
        refined = scores.softmax(dim=2) @ value
        return self.neck((refined * self.gate.softmax(dim=0)[:, None]).sum(dim=1) + vectors)


class GraphAttention(nn.Module):
    """One attention layer over linked nodes: N x ``incoming`` to N x ``outgoing``.

    With h = x W, node i takes ``sum_j softmax_j(leaky_relu(a1.h_i + a2.h_j)) h_j`` over the nodes j linked to
    it. ``scores`` holds a1 above a2. Source: Velickovic et al., ICLR 2018, equations 1-4, with the slope 0.2
    given there.
    """

    def __init__(self, incoming: int, outgoing: int, slope: float = 0.2) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(incoming, outgoing))
        self.scores = nn.Parameter(torch.empty(2 * outgoing, 1))
        self.slope = slope

    def draw_weights(self, generator: torch.Generator) -> None:
        """Xavier-uniform weights with a gain for rectifiers."""
        for parameter in (self.weight, self.scores):
            nn.init.xavier_uniform_(parameter, gain=2**0.5, generator=generator)

    def forward(self, nodes: Tensor, linked: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
        """Mix ``nodes`` by attention; ``linked`` is N x N, true where row takes from column.

        Every row needs a link. Each attention weight is dropped with probability ``dropout``.
        """
        mapped = nodes @ self.weight
        own, other = self.scores.view(2, -1)
        # a.[h_i; h_j] splits into two products, so no N x N stack of concatenations is made.
        scores = F.leaky_relu((mapped @ own)[:, None] + (mapped @ other)[None, :], self.slope)
        attention = scores.masked_fill(~linked, -torch.inf).softmax(dim=1)
        return drop_elements(attention, dropout, generator) @ mapped


class GraphClassifier(nn.Module):
    """Identity logits of the images of a batch, each computed from all images of its identity.

    ``heads`` parallel attention layers of ``width`` outputs, ELU, one more layer to ``classes``, ELU. All
    images of one identity, of both modalities, are linked, also each with itself. Source: Ye et al., ECCV
    2020, section 3.3, equations 6-8.
    """

    def __init__(self, channels: int, width: int, heads: int, classes: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(GraphAttention(channels, width) for _ in range(heads))
        self.out = GraphAttention(width * heads, classes)

    def forward(self, vectors: Tensor, labels: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
        """N x C logits of N x ``channels`` vectors with N labels; training only.

        Inputs of both layers and attention weights are dropped with probability ``dropout``; ``generator`` is
        on the device of ``vectors``.
        """
        linked = labels[:, None] == labels[None, :]
        nodes = drop_elements(vectors, dropout, generator)
        mixed = [F.elu(head(nodes, linked, dropout, generator)) for head in self.heads]
        nodes = drop_elements(torch.cat(mixed, dim=1), dropout, generator)
        return F.elu(self.out(nodes, linked, dropout, generator))


class ChannelAttention(nn.Module):
    """Mixes the channels of the stage's input by their products with channels of its output.

    ``y = (theta(high) phi(low)^T / c) g(low)`` over the c channels of ``low``; returned is ``high +
    BN(project y)``. ``stride`` is that of the stage. Source: Zhang et al., CVPR 2023 (channel non-local).
    """

    def __init__(self, high: int, low: int, stride: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(high, low, kernel_size=1)
        self.phi = nn.Conv2d(low, low, kernel_size=1, stride=stride)
        # The authors stride in the projection; mixing acts on single positions, so striding first is
        # equivalent.
        self.g = nn.Conv2d(low, low, kernel_size=1, stride=stride)
        self.project = nn.Conv2d(low, high, kernel_size=1)
        self.norm = nn.BatchNorm2d(high)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """N x ``high`` x h x w with the attention added, from that and the stage's input."""
        g = self.g(low)
        scores = self.theta(high).flatten(2) @ self.phi(low).flatten(2).transpose(1, 2)
        mixed = (scores / scores.shape[2]) @ g.flatten(2)
        return high + self.norm(self.project(mixed.view_as(g)))


class PositionAttention(nn.Module):
    """Adds information from positions of the stage's input to every position of its output.

    ``y_i = 1/P sum_j theta(high)_i phi(low)_j g(low)_j``; returned is ``high + BN(project y)``. The three
    projections have half of ``low``'s channels, but the authors lay their maps out as ``low`` channels of
    half as many positions: a position i (of P) is an upper one together with its counterpart in the lower
    half of the map, and stored weights expect it so. Source: Zhang et al., CVPR 2023 (position non-local).
    """

    def __init__(self, high: int, low: int) -> None:
        super().__init__()
        self.low = low
        self.theta = nn.Conv2d(high, low // 2, kernel_size=1)
        self.phi = nn.Conv2d(low, low // 2, kernel_size=1)
        self.g = nn.Conv2d(low, low // 2, kernel_size=1)
        self.project = nn.Conv2d(low // 2, high, kernel_size=1)
        self.norm = nn.BatchNorm2d(high)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """N x ``high`` x h x w with the attention added; both maps need an even number of positions."""
        theta, phi, g = (
            project(source).reshape(len(high), self.low, -1)
            for project, source in ((self.theta, high), (self.phi, low), (self.g, low))
        )
        # In the authors' order: the product of three factors amplifies rounding, so another order would break
        # parity.
        scores = theta.transpose(1, 2) @ phi
        mixed = (scores / scores.shape[2]) @ g.transpose(1, 2)
        mixed = mixed.transpose(1, 2).reshape(len(high), self.low // 2, *high.shape[2:])
        return high + self.norm(self.project(mixed))


class FeatureAggregation(nn.Module):
    """Channel attention, then position attention, of a stage's output to its input."""

    def __init__(self, high: int, low: int, stride: int) -> None:
        super().__init__()
        self.channel = ChannelAttention(high, low, stride)
        self.position = PositionAttention(high, low)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """N x ``high`` x h x w, from the stage's output and its N x ``low`` x H x W input."""
        return self.position(self.channel(high, low), low)

    def start_as_identity(self) -> None:
        """Initialise the block as the identity, so that it does not change a pretrained trunk."""
        for norm in (self.channel.norm, self.position.norm):
            nn.init.zeros_(norm.weight)


_START = 0.333


class _Encoder(nn.Module):
    """Normalised N x 3 x H x W images of one modality to one normalised channel."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 1, kernel_size=1)
        self.scale = nn.Conv2d(1, 1, kernel_size=1)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(F.relu(self.scale(F.relu(self.mix(images)))))


class MiddleModality(nn.Module):
    """Turns images of either modality into a shared middle modality, pixel by pixel.

    Each modality has its own encoder to a single channel (1x1 convolutions and batch normalisation); one
    decoder makes three channels of it for both. Source: Zhang et al., ACM MM 2021 (middle modality
    generator).
    """

    def __init__(self) -> None:
        super().__init__()
        self.visible = _Encoder()
        self.infrared = _Encoder()
        self.decoder = nn.Conv2d(1, 3, kernel_size=1)

    def forward(self, images: Tensor, modality: Modality) -> Tensor:
        """Non-negative N x 3 x H x W images of the middle modality, from normalised ones."""
        encoder = self.visible if modality is Modality.VISIBLE else self.infrared
        return F.relu(self.decoder(encoder(images)))

    @torch.no_grad()
    def start_as_average(self) -> None:
        """Give every convolution the authors' initial weights: all equal, so that channels are averaged."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.constant_(module.weight, _START)
                nn.init.zeros_(module.get_parameter("bias"))


class ModalityAlleviation(nn.Module):
    """Blend a map with its instance-normalised version, channel by channel.

    N x C x h x w to the same shape: ``m x + (1 - m) IN(x)`` with a gate m for each channel of each image.
    Normalisation has neither scale nor shift. In training a map needs more than one position. Source: Wu et
    al., CVPR 2021 (modality alleviation module).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = ChannelGate(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Gate and blend."""
        gate = self.gate(features)
        return gate * features + (1 - gate) * F.instance_norm(features)


@dataclass(frozen=True)
class Disentangled:
    """Maps of a visible and an infrared batch, N x C x h x w each; row i of both has the same identity.

    ``normalised``: IN(F); ``restituted``: IN(F) plus the modality-irrelevant part of the removed F - IN(F);
    ``tainted``: IN(F) plus the modality-relevant part instead; ``compensated``: the restituted map plus the
    modality-relevant part of the other modality's map.
    """

    normalised: Pair
    restituted: Pair
    tainted: Pair
    compensated: Pair


class ModalityRestitution(nn.Module):
    """An instance normalisation for each modality, and gates that distil what it removed.

    With the removed R = F - IN(F), the restitution gate a keeps its modality-irrelevant channels, a R, and
    the compensation gate b its modality-relevant ones, b R. A forward pass only restitutes, IN(F) + a R,
    because compensation needs both modalities. Maps need more than one position in training. Source: Zhang et
    al., AAAI 2023 (MRM and MCM), with gates as in Jin et al., CVPR 2020 (SNR).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.visible_norm = nn.InstanceNorm2d(channels, affine=True)
        self.infrared_norm = nn.InstanceNorm2d(channels, affine=True)
        self.restitute = ChannelGate(channels)
        self.compensate = ChannelGate(channels)

    @torch.no_grad()
    def draw_weights(self, generator: torch.Generator) -> None:
        """Initialise normalisation with scale 1 and shift 0; the gates sample their own weights."""
        for norm in (self.visible_norm, self.infrared_norm):
            nn.init.ones_(norm.weight)
            nn.init.zeros_(norm.bias)

    def forward(self, features: Tensor, modality: Modality) -> Tensor:
        """Normalised and restituted N x C x h x w map of one modality."""
        normalised, removed = self._split(features, modality)
        return normalised + self.restitute(removed) * removed

    def disentangle(self, visible: Tensor, infrared: Tensor) -> Disentangled:
        """All versions of the maps of a paired training batch, N x C x h x w of each modality."""
        split = self._split(visible, Modality.VISIBLE), self._split(infrared, Modality.INFRARED)
        seen, unseen = (kept for kept, _ in split)
        seen_back, unseen_back = (kept + self.restitute(removed) * removed for kept, removed in split)
        seen_own, unseen_own = (self.compensate(removed) * removed for _, removed in split)
        return Disentangled(
            normalised=(seen, unseen),
            restituted=(seen_back, unseen_back),
            tainted=(seen + seen_own, unseen + unseen_own),
            compensated=(seen_back + unseen_own, unseen_back + seen_own),
        )

    def _split(self, features: Tensor, modality: Modality) -> Pair:
        norm = self.visible_norm if modality is Modality.VISIBLE else self.infrared_norm
        normalised = norm(features)
        return normalised, features - normalised


_DILATIONS = (1, 2, 3)

BRANCHES = 2


class _Branch(nn.Module):
    """Dilated 3x3 convolutions to a quarter of the channels, their mean, ReLU, and back by 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 4
        self.dilated = nn.ModuleList(
            nn.Conv2d(channels, inner, kernel_size=3, padding=dilation, dilation=dilation, bias=False)
            for dilation in _DILATIONS
        )
        self.project = nn.Conv2d(inner, channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        mean = sum(convolve(features) for convolve in self.dilated) / len(self.dilated)
        return self.project(F.relu(mean))


class EmbeddingExpansion(nn.Module):
    """N x ``channels`` x h x w maps to 3N maps: the originals, then a first and a second version of each.

    Source: Zhang et al., CVPR 2023 (diverse embedding expansion).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_Branch(channels) for _ in range(BRANCHES))

    def forward(self, features: Tensor) -> Tensor:
        """Version v of image i is row ``v * N + i``."""
        return torch.cat((features, *(branch(features) for branch in self.branches)))


class PatternParts(nn.Module):
    """Masks that each select one pattern of a map: a 1x1 convolution and a sigmoid.

    N x ``channels`` x h x w to N x ``parts`` x h x w in (0, 1). Source: Wu et al., CVPR 2021 (pattern
    alignment).
    """

    def __init__(self, channels: int, parts: int) -> None:
        super().__init__()
        self.attend = nn.Conv2d(channels, parts, kernel_size=1)

    def draw_weights(self, generator: torch.Generator) -> None:
        """Every mask starts at one half on average."""
        nn.init.kaiming_uniform_(self.attend.weight, a=5**0.5, generator=generator)
        nn.init.zeros_(self.attend.get_parameter("bias"))

    def forward(self, features: Tensor) -> Tensor:
        """The masks."""
        return self.attend(features).sigmoid()


def masked_vectors(features: Tensor, masks: Tensor) -> Tensor:
    """N x (P + 1) C: the mean of each of P masked maps, mask by mask, and last the mean of the map itself.

    ``features`` is N x C x h x w, ``masks`` N x P x h x w; a mean is over all h x w positions, not only those
    inside the mask.
    """
    flat, weights = features.flatten(2), masks.flatten(2)
    parts = weights @ flat.transpose(1, 2) / flat.shape[2]
    return torch.cat((parts.flatten(1), flat.mean(dim=2)), dim=1)


def mask_overlap(masks: Tensor) -> Tensor:
    """Inner product of two masks of an image, averaged over pairs of masks and images; a scalar.

    ``masks`` is N x P x h x w; raises BadInput for a single mask. Source: the separation loss of Wu et al.,
    CVPR 2021.
    """
    parts = masks.shape[1]
    if parts < 2:
        raise BadInput("mask overlap: there must be two masks at least")
    masks = widen(masks)
    # Each mask times the sum of those before it: every pair once, without a matrix product, which would
    # round.
    products = masks[:, 1:] * masks[:, :-1].cumsum(dim=1)
    return products.sum() / (len(masks) * parts * (parts - 1) / 2)
