"""The embedded dataset: scikit-learn's 1,797 handwritten digits, enlarged to 16×16."""

import numpy as np

from resnet_cli.data.dataset import Images, Source, stratified_indices

NUM_TEST = 360  # one fifth
_SPLIT_SEED = 0


def load_digits() -> Source:
    """Load the digits as RGB bytes: every pixel doubled to 2×2, split 1,437 / 360 (fixed, stratified).

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (the test part).
    """
    from sklearn.datasets import load_digits as sklearn_digits

    bunch = sklearn_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8), values 0 … 16 before scaling
    doubled = grey.repeat(2, axis=1).repeat(2, axis=2)  # (1797, 16, 16)
    everything = Images(np.repeat(doubled[..., None], 3, axis=3), bunch.target.astype(np.int64))
    test = stratified_indices(everything.labels, NUM_TEST, _SPLIT_SEED)
    train = np.setdiff1d(np.arange(len(everything)), test)
    return Source(
        name="digits",
        display_name="digits (16×16)",
        classes=tuple("0123456789"),
        train=everything.take(train),
        test=everything.take(test),
    )
