"""The built-in attacks, readable without importing one: name -> (target, summary, paper, traits)."""

from __future__ import annotations

from dataclasses import dataclass

_FGSM = "Goodfellow et al., Explaining and Harnessing Adversarial Examples, ICLR 2015"
_PGD = "Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018"
_MIFGSM = "Dong et al., Boosting Adversarial Attacks with Momentum, CVPR 2018"
_METRIC = "Bai et al., Adversarial Metric Attack and Defense for Person Re-identification, TPAMI 2021"
_ODFA = "Zheng et al., U-turn: Crafting Adversarial Queries with Opposite-Direction Features, 2018"
_BOUNIOT = (
    "Bouniot et al., Vulnerability of Person Re-Identification Models to Metric Adversarial Attacks, "
    "CVPRW 2020"
)
_LTA = "Gong et al., Person Re-identification Method Based on Color Attack and Joint Defence, CVPRW 2022"
_UAP = "Li et al., Universal Perturbation Attack Against Image Retrieval, ICCV 2019"
_CMPS = "Gong et al., Cross-Modality Perturbation Synergy Attack for Person Re-identification, NeurIPS 2024"
_MUAP = "Ding et al., Beyond Universal Person Re-Identification Attack, TIFS 2021"
_MIS_RANKING = (
    "Wang et al., Transferable, Controllable, and Inconspicuous Adversarial Attacks on Person "
    "Re-identification With Deep Mis-Ranking, CVPR 2020"
)
_FSAM = "Yang et al., Feature-Level Adversarial Attacks and Ranking Disruption for VIReID, NeurIPS 2024"
_SQUARE = "Andriushchenko et al., Square Attack, ECCV 2020"
_SIMBA = "Guo et al., Simple Black-box Adversarial Attacks, ICML 2019"
_ENSEMBLE = (
    "after Croce and Hein, Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse "
    "Parameter-free Attacks, ICML 2020"
)

ATTACKS: dict[str, tuple[str, str, str, str]] = {
    "noise": (
        "vbench.attacks.noise:Noise",
        "random noise: the floor every attack must beat",
        "",
        "per-image",
    ),
    "fgsm": (
        "vbench.attacks.classification:FGSM",
        "one signed step on the cross-entropy of the identity classifier",
        _FGSM,
        "per-image",
    ),
    "pgd": (
        "vbench.attacks.classification:PGD",
        "projected signed steps on the cross-entropy of the identity classifier",
        _PGD,
        "per-image",
    ),
    "mifgsm": (
        "vbench.attacks.classification:MIFGSM",
        "signed steps with momentum on the cross-entropy of the identity classifier",
        _MIFGSM,
        "per-image",
    ),
    "metric_fgsm": (
        "vbench.attacks.metric:MetricFGSM",
        "one signed step away from guides in embedding space",
        _METRIC,
        "per-image",
    ),
    "metric_ifgsm": (
        "vbench.attacks.metric:MetricIFGSM",
        "signed steps away from guides in embedding space",
        _METRIC,
        "per-image",
    ),
    "metric_mifgsm": (
        "vbench.attacks.metric:MetricMIFGSM",
        "signed steps with momentum away from guides in embedding space",
        _METRIC,
        "per-image",
    ),
    "odfa": (
        "vbench.attacks.odfa:ODFA",
        "drive the embedding toward the opposite of its clean direction",
        _ODFA,
        "per-image",
    ),
    "sma": (
        "vbench.attacks.bouniot:SMA",
        "away from the own clean embedding, from a random start in the whole budget",
        _BOUNIOT,
        "per-image",
    ),
    "fna": (
        "vbench.attacks.bouniot:FNA",
        "away from the own guide and toward the furthest training identity",
        _BOUNIOT,
        "per-image",
    ),
    "lta": (
        "vbench.attacks.lta:LTA",
        "away from copies of the image with a patch turned grey",
        _LTA,
        "per-image",
    ),
    "square": (
        "vbench.attacks.black_box:Square",
        "black-box: random squares, guided by embeddings or ranking alone",
        _SQUARE,
        "per-image",
    ),
    "simba": (
        "vbench.attacks.black_box:SimBA",
        "black-box: one frequency at a time, guided by embeddings or ranking alone",
        _SIMBA,
        "per-image",
    ),
    "uap": (
        "vbench.attacks.uap:UAP",
        "universal: away from the nearest training prototypes, toward the farthest",
        _UAP,
        "universal",
    ),
    "cmps": (
        "vbench.attacks.cmps:CMPS",
        "universal: triplets across visible, grey and infrared centroids, modality by modality",
        _CMPS,
        "universal",
    ),
    "muap": (
        "vbench.attacks.muap:MUAP",
        "universal: lowers the average precision of whole lists, with total variation",
        _MUAP,
        "universal",
    ),
    "mis_ranking": (
        "vbench.attacks.mis_ranking:MisRanking",
        "a generator learnt on training identities turns each image's ranking around",
        _MIS_RANKING,
        "universal",
    ),
    "fsam_uap": (
        "vbench.attacks.fsam_uap:FSAMUAP",
        "universal: frequency-spatial attention with the auxiliary quadruple adversarial loss",
        _FSAM,
        "universal",
    ),
    "ensemble": (
        "vbench.attacks.ensemble:Ensemble",
        "the worst of five attacks for each query, as AutoAttack for classifiers",
        _ENSEMBLE,
        "battery",
    ),
}


@dataclass(frozen=True)
class Price:
    """What an attack needs to know and what it costs, with its default settings.

    ``knowledge``: whether it sees inside the victim, and what it knows beyond victim and image.
    ``gradients``: images sent forward and backward through the victim, for each attacked image or for one
    ``fit``; ``queries``: images sent forward only, for each attacked image; ``fits``: gradients of fits that
    stand beside what an image costs. A universal attack costs nothing an image; forward passes that prepare
    or steer its fit are not counted.
    """

    knowledge: str
    gradients: int = 0
    queries: int = 0
    fit: bool = False
    fits: int = 0

    @property
    def cost(self) -> str:
        """As a listing shows it."""
        parts = [
            f"{count} {what if count > 1 else one}"
            for count, what, one in (
                (self.gradients, "gradients", "gradient"),
                (self.queries, "queries", "query"),
            )
            if count
        ]
        cost = f"{' + '.join(parts) or 'nothing'} {'a fit' if self.fit else 'an image'}"
        return f"{cost}, {self.fits} gradients a fit" if self.fits else cost


_WHITE, _TRAINED = "white box", "white box, training"
_FIT = Price(_TRAINED, gradients=12800, fit=True)

PRICES: dict[str, Price] = {
    "noise": Price("nothing"),
    "fgsm": Price(_WHITE, gradients=1),
    "pgd": Price(_WHITE, gradients=10),
    "mifgsm": Price(_WHITE, gradients=10),
    "metric_fgsm": Price(_WHITE, gradients=1),
    "metric_ifgsm": Price(_WHITE, gradients=10),
    "metric_mifgsm": Price(_WHITE, gradients=10),
    "odfa": Price(_WHITE, gradients=10),
    "sma": Price(_WHITE, gradients=15),
    "fna": Price(_TRAINED, gradients=15),
    "lta": Price(_WHITE, gradients=15, queries=15),
    "square": Price("black box", queries=1000),
    "simba": Price("black box", queries=1000),
    "uap": _FIT,
    "cmps": _FIT,
    "muap": _FIT,
    "mis_ranking": _FIT,
    "fsam_uap": _FIT,
    "ensemble": Price("white box, evaluation, training", gradients=40, queries=200, fits=12800),
}

#: Libraries whose attacks are reached as ``prefix:NAME``: prefix -> (target, summary). The target is called
#: with the name and returns the class.
LIBRARIES: dict[str, tuple[str, str]] = {
    "torchattacks": (
        "vbench.attacks.from_torchattacks:attack",
        "any L_inf or L2 attack of torchattacks on the identity classifier, by its class name",
    ),
    "art": (
        "vbench.attacks.from_art:attack",
        "any L_inf or L2 evasion attack of ART on the identity classifier, by its class name",
    ),
}
