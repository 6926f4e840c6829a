"""Training of victims."""

from vbench.train.images import TrainImages, load_train_images
from vbench.train.trainer import TrainResult, train_victim

__all__ = ["TrainImages", "TrainResult", "load_train_images", "train_victim"]
