"""The built-in victims, readable without importing one: name -> (target, summary, paper, traits)."""

VICTIMS: dict[str, tuple[str, str, str, str]] = {
    "agw": (
        "vbench.victims.agw:AGW",
        "two-stream ResNet-50 with non-local blocks and generalised-mean pooling",
        "Ye et al., Deep Learning for Person Re-identification: A Survey and Outlook, TPAMI 2022",
        "288x144, cosine",
    ),
}
