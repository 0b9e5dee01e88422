"""The plan of a study follows from its grid and from the run directories."""

import os
from pathlib import Path

import msgspec
import pytest

from resnet_cli.errors import ConfigError, UsageError
from resnet_cli.recipes import make_config, recipe_label
from resnet_cli.rundir import InitialWeights, RunDir
from resnet_cli.study import grid_configs, plan
from resnet_cli.study_file import Grid

GRID = Grid(recipe="demo", archs=("plain", "resnet"), depths=(8, 14), seeds=(0, 1))
CONFIGS = grid_configs(GRID)


def change(**fields):
    return Grid(**{**{name: getattr(GRID, name) for name in GRID.__struct_fields__}, **fields})


def test_a_grid_has_one_run_per_seed_depth_and_architecture_and_all_runs_of_a_seed_come_first():
    assert list(CONFIGS) == [
        "plain-8-seed0", "resnet-8-seed0", "plain-14-seed0", "resnet-14-seed0",
        "plain-8-seed1", "resnet-8-seed1", "plain-14-seed1", "resnet-14-seed1",
    ]  # fmt: skip
    assert CONFIGS["resnet-14-seed1"] == make_config("demo", arch="resnet", depth=14, seed=1)


def test_the_options_of_a_grid_apply_to_every_run_and_a_shortcut_to_residual_networks_only():
    configs = grid_configs(change(options={"epochs": 3, "milestones": [2], "shortcut": "B"}, seeds=(0,)))
    assert list(configs) == ["plain-8-seed0", "resnet-8-B-seed0", "plain-14-seed0", "resnet-14-B-seed0"]
    assert {(config.epochs, config.milestones) for config in configs.values()} == {(3, (2,))}


def test_the_warm_up_arm_adds_plain_networks_that_warm_up_at_a_tenth_of_the_rate():
    configs = grid_configs(change(recipe="overnight", arms=("warmup",), depths=(20, 56), options={"lr": 0.05}))
    assert list(configs)[:6] == [
        "plain-20-seed0", "resnet-20-seed0", "plain-56-seed0", "resnet-56-seed0",
        "plain-20-warmup-seed0", "plain-56-warmup-seed0",
    ]  # fmt: skip
    warm, main = configs["plain-56-warmup-seed1"], configs["plain-56-seed1"]
    assert main.diff(warm) == ["warmup_steps: 0 → 400", "warmup_lr: 0.01 → 0.005"]
    assert len(configs) == 12


def test_a_run_of_the_warm_up_arm_has_the_label_of_one_that_was_started_by_hand():
    configs = grid_configs(change(recipe="overnight", arms=("warmup",), depths=(20, 56)))
    by_hand = make_config("overnight", arch="plain", depth=56, warmup_steps=400, warmup_lr=0.01)
    assert configs["plain-56-warmup-seed0"] == by_hand
    assert recipe_label(configs["plain-56-warmup-seed0"]) == "overnight warmup_steps=400"


def test_a_recipe_that_warms_up_anyway_has_no_warm_up_arm():
    with pytest.raises(UsageError, match="arm warmup: plain-8 of recipe demo has 24 warm-up steps already"):
        grid_configs(change(arms=("warmup",)))
    assert len(grid_configs(change(arms=("warmup",), options={"warmup_steps": 0}))) == 12


def test_an_unknown_arm_depth_or_option_is_wrong_usage():
    with pytest.raises(UsageError, match="unknown arm cold; use warmup"):
        grid_configs(change(arms=("cold",)))
    with pytest.raises(ConfigError, match="depth 9 is not 6n"):
        grid_configs(change(depths=(9,)))
    with pytest.raises(ConfigError, match="unknown configuration field speed"):
        grid_configs(change(options={"speed": 1}))


def test_every_configuration_has_its_own_run_directory_and_a_name_for_messages():
    jobs = plan(CONFIGS, Path("study"))
    assert [job.config for job in jobs] == list(CONFIGS.values())
    assert (jobs[0].out, jobs[0].name) == (Path("study/plain-8-seed0"), "plain-8, seed 0")
    (warm,) = plan({"plain-8-warmup-seed3": make_config("demo", arch="plain", depth=8, seed=3)}, Path("study"))
    assert warm.name == "plain-8-warmup, seed 3"
    unnamed = plan([make_config("demo", arch="resnet", depth=8, shortcut=shortcut) for shortcut in "AB"], Path("study"))
    assert [job.out.name for job in unnamed] == ["resnet-8-seed0", "resnet-8-B-seed0"]


def test_a_job_is_a_train_command_that_can_be_given_again():
    job = plan(CONFIGS, Path("study"))[1]
    name, arguments = job.task("--save-every", "5min", data_dir=Path("my data"))
    assert name == "resnet-8, seed 0"
    assert arguments == [
        "train", "--recipe", "demo", "--arch", "resnet", "--depth", "8", "--data-dir", "my data",
        "--out", "study/resnet-8-seed0", "--save-every", "5min", "--quiet",
    ]  # fmt: skip


def test_planning_reads_the_status_of_the_runs_and_writes_nothing(make_run, tmp_path):
    made = {"complete": "plain-8-seed0", "incomplete": "resnet-8-seed0", "diverged": "plain-14-seed0"}
    for status, name in made.items():
        config = CONFIGS[name]
        make_run(tmp_path / name, recipe="demo", dataset="digits", arch=config.arch, depth=config.depth, status=status)
    recorded = {name: RunDir(tmp_path / name).read_record().config for name in made.values()}
    configs = {**recorded, "resnet-14-seed0": CONFIGS["resnet-14-seed0"]}
    assert [job.state for job in plan(configs, tmp_path)] == ["done", "resume", "diverged", "todo"]
    with RunDir(tmp_path / made["incomplete"]).lock():
        assert [job.state for job in plan(configs, tmp_path)] == ["done", "running", "diverged", "todo"]
    assert sorted(os.listdir(tmp_path)) == sorted(made.values())


def test_a_folder_with_a_run_of_another_configuration_is_refused_before_anything_is_trained(make_run, tmp_path):
    make_run(tmp_path / "plain-8-seed0", recipe="demo", dataset="digits", depth=8, epochs=2)
    with pytest.raises(UsageError, match=r"contains a run with a different configuration \(arch: resnet → plain"):
        plan(CONFIGS, tmp_path)


def test_configurations_that_would_share_a_run_directory_need_names(tmp_path):
    configs = [make_config("demo", arch="plain", depth=8, lr=lr) for lr in (0.1, 0.2, 0.2)]
    with pytest.raises(UsageError, match="two configurations have the name plain-8-seed0; pass a dictionary"):
        plan(configs, tmp_path)
    assert [job.out.name for job in plan(configs[1:], tmp_path)] == ["plain-8-seed0"]
    assert [job.out.name for job in plan(dict(zip("ab", configs, strict=False)), tmp_path)] == ["a", "b"]


def test_a_run_that_started_from_given_weights_is_not_taken_for_one_of_the_grid(make_run, tmp_path):
    run = make_run(tmp_path / "plain-8-seed0", recipe="demo", dataset="digits", arch="plain", depth=8)
    record = run.read_record()
    initial = InitialWeights(path="resnet.th", sha256="5" * 64, copy_sha256="6" * 64)
    run.record_path.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, init_from=initial)))
    with pytest.raises(UsageError, match=r"contains a run that started from resnet\.th, not from random weights"):
        plan({"plain-8-seed0": record.config}, tmp_path)
