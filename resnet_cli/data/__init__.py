"""Datasets: sources, verification, and batches that stay on the device."""

from resnet_cli.data.dataset import Dataset, Images, Source, prepare
from resnet_cli.data.open import load_source, open_data

__all__ = ["Dataset", "Images", "Source", "load_source", "open_data", "prepare"]
