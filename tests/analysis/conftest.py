"""Studies shared by the tests of this folder."""

import pytest

from resnet_cli.analysis.frames import load_study

REPORT = {("plain", 20): 90.84, ("resnet", 20): 91.95, ("plain", 56): 86.71, ("resnet", 56): 93.25}


@pytest.fixture
def make_study(make_run, tmp_path):
    """Builder of runs of the four networks of the report; the accuracy of each seed differs slightly."""

    def make(*, seeds=1, name="runs", **fields):
        for (arch, depth), accuracy in REPORT.items():
            for seed in range(seeds):
                make_run(
                    tmp_path / name / f"{arch}-{depth}-{seed}", arch=arch, depth=depth, seed=seed, predictions=False,
                    accuracy=round(accuracy + 0.1 * seed * (1 if arch == "plain" else 2), 2),
                    train_error=(5.0 if arch == "plain" else 1.0) + depth / 20 + seed / 10, **fields,
                )  # fmt: skip
        return load_study([tmp_path])

    return make
