"""The data of a configuration or of a recorded run: where they are found and how they are checked."""

import functools
import shutil
from pathlib import Path

import numpy as np
import pytest

from resnet_cli.data import load_source, open_data
from resnet_cli.data.open import PUBLISHED_SIZES
from resnet_cli.errors import ConfigError, InputError
from resnet_cli.recipes import make_config
from resnet_cli.rundir.records import DatasetRecord


def config_for(dataset, **fields):
    return make_config("demo", arch="plain", depth=8, dataset=dataset, **fields)


def record_of(data):
    return DatasetRecord(
        name=data.name, display_name=data.display_name, fingerprint=data.fingerprint, num_train=len(data.train),
        num_val=0, num_test=len(data.test), classes=data.classes, image_size=data.image_size, mean=data.mean,
        std=data.std, location=data.location,
    )  # fmt: skip


@pytest.fixture
def config():
    return config_for("imagefolder")


def test_a_configuration_selects_the_subsets_and_the_validation_split():
    data = open_data(config_for("digits", limit_train=100, limit_test=20, val_size=30))
    assert (len(data.train), len(data.val), len(data.test)) == (70, 30, 20)
    other = open_data(config_for("digits", limit_train=100, limit_test=20, val_size=30, seed=1))
    assert other.fingerprint == data.fingerprint
    assert not np.array_equal(other.val.pixels, data.val.pixels)


def test_data_dir_wins_over_the_recorded_folder_which_wins_over_the_default(config, make_tree, tree, monkeypatch):
    here = make_tree({"train/cat/a.png": 1, "test/cat/b.png": 2}, "here")
    monkeypatch.setenv("RESNET_DATA", str(make_tree({"train/cat/a.png": 3, "test/cat/b.png": 4}, "default")))
    recorded = record_of(open_data(config, data_dir=tree))
    opened = functools.partial(open_data, config, allow_other_data=True)
    assert opened(recorded=recorded, data_dir=here).location == str(here)
    assert opened(recorded=recorded).location == str(tree)
    shutil.rmtree(tree)
    assert opened(recorded=recorded).display_name == "default"


def test_a_run_whose_recorded_data_folder_is_gone_needs_data_dir(config, tree):
    recorded = record_of(open_data(config, data_dir=tree))
    shutil.rmtree(tree)
    with pytest.raises(ConfigError, match="data_dir"):
        open_data(config, recorded=recorded)


def test_nothing_is_downloaded_into_a_recorded_folder(published, server, tmp_path):
    config = config_for("cifar10")
    recorded = record_of(open_data(config, data_dir=tmp_path / "data"))
    next((tmp_path / "data").glob("*.tar.gz")).unlink()
    before = sorted((tmp_path / "data").iterdir())
    with pytest.raises(InputError, match="resnet data fetch cifar10"):
        open_data(config, recorded=recorded)
    assert sorted((tmp_path / "data").iterdir()) == before
    assert len(server.requests) == 1


def test_the_error_for_data_other_than_the_recorded_ones_shows_both_fingerprints_and_a_fix(config, tree, make_tree):
    other = make_tree({"train/cat/a.png": 1, "test/cat/b.png": 2}, "other")
    recorded = record_of(open_data(config, data_dir=tree))
    found = open_data(config, data_dir=other, recorded=recorded, allow_other_data=True)
    with pytest.raises(InputError) as caught:
        open_data(config, data_dir=other, recorded=recorded, run=Path("runs/a"), override="--overwrite")
    message = caught.value.as_options()
    assert message.startswith("runs/a was trained on other data: ")
    assert message.endswith("; pass the original --data-dir, or --overwrite")
    for part in (recorded.fingerprint[:12], found.fingerprint[:12], str(other)):
        assert part in message


@pytest.mark.parametrize("fields", [{"limit_train": 50_001}, {"limit_test": 5}, {"val_size": 49_991}])
def test_a_limit_that_does_not_fit_a_published_dataset_is_refused_before_downloading(fields, published, server):
    with pytest.raises(ConfigError, match="must be between 10"):
        open_data(config_for("cifar10", **fields))
    assert not server.requests


def test_the_published_sizes_of_the_digits_are_those_of_the_images():
    data = open_data(config_for("digits"))
    assert PUBLISHED_SIZES["digits"] == (len(data.train), len(data.test), len(data.classes), data.image_size)


def test_runs_of_one_study_can_share_the_images_that_were_read():
    reads = []

    def counted(*args, **kwargs):
        reads.append(args)
        return load_source(*args, **kwargs)

    load = functools.lru_cache(maxsize=1)(counted)
    for seed in (0, 1):
        open_data(config_for("digits", seed=seed, val_size=20), load=load)
    assert len(reads) == 1
