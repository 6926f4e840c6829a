# plain_resnet.py
"""A torchvision ResNet-18 as a victim."""

from torch.nn.functional import normalize
from torchvision.models import resnet18

from vbench.victims import Normalise, Victim, VictimOutput


class PlainResNet(Victim):
    name, summary, paper = "plain_resnet", "one ResNet-18 for both modalities", ""
    stages = ("layer1", "layer2", "layer3", "layer4")

    def __init__(self, *, num_classes: int = 395, input_size: tuple[int, int] = (128, 64)) -> None:
        super().__init__()
        self.num_classes, self.input_size, self.embedding_dim = num_classes, tuple(input_size), 512
        self.normalise, self.net = Normalise(), resnet18(num_classes=num_classes)

    def forward(self, images, modality, edits=None):
        self.check_images(images)
        edits, net, features = self.check_edits(edits), self.net, {}
        current = net.maxpool(net.relu(net.bn1(net.conv1(self.normalise(images)))))
        for stage in self.stages:
            current = getattr(net, stage)(current)
            current = features[stage] = edits[stage](current) if stage in edits else current
        pooled = current.mean((2, 3))
        return VictimOutput(normalize(pooled), net.fc(pooled), features)
