"""Training of victims."""

from vbench.victims.training.batches import TrainImages, load_train_images
from vbench.victims.training.trainer import TrainResult, train_victim

__all__ = ["TrainImages", "TrainResult", "load_train_images", "train_victim"]
