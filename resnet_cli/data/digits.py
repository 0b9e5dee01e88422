"""The embedded dataset: scikit-learn's 1,797 handwritten digits, enlarged to 16×16."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resnet_cli.data.dataset import Images, Source, stratified_indices

NUM_TEST = 360  # one fifth
_SPLIT_SEED = 0
_FILE = "datasets/data/digits.csv.gz"  # of scikit-learn


def load_digits() -> Source:
    """Load the digits as RGB bytes: every pixel doubled to 2×2, split 1,437 / 360 (fixed, stratified).

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (the test part).
    """
    images, labels = _read()
    grey = np.rint(images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8), values 0 … 16 before scaling
    doubled = grey.repeat(2, axis=1).repeat(2, axis=2)  # (1797, 16, 16)
    everything = Images(np.repeat(doubled[..., None], 3, axis=3), labels.astype(np.int64))
    test = stratified_indices(everything.labels, NUM_TEST, _SPLIT_SEED)
    train = np.setdiff1d(np.arange(len(everything)), test)
    return Source(
        name="digits",
        display_name="digits (16×16)",
        classes=tuple("0123456789"),
        train=everything.take(train),
        test=everything.take(test),
    )


def _read() -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Images (1797, 8, 8) and labels (1797,), from a file of scikit-learn, whose import takes a second."""
    package = importlib.util.find_spec("sklearn")
    assert package
    assert package.origin
    try:
        table = np.loadtxt(Path(package.origin).parent / _FILE, delimiter=",")
    except FileNotFoundError:  # a version with its file elsewhere
        from sklearn.datasets import load_digits as sklearn_digits

        bunch = sklearn_digits()
        return bunch.images, bunch.target
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1]
