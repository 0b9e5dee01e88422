"""The expected cost of a study, from a short measurement in a child process."""

from pathlib import Path

import pytest

from resnet_cli.recipes import make_config
from resnet_cli.study import plan
from resnet_cli.study.estimate import Estimate, estimate_runs, part_left

SMALL = {"limit_train": 256, "limit_test": 10}


def jobs(*depths, **options):
    return plan([make_config("demo", arch="plain", depth=depth, **options) for depth in depths], Path("study"))


def measured(monkeypatch, costs):
    """Replace the measurement: `costs` by depth; returns the depths that were measured."""
    depths = []

    def measure(configs):
        depths.extend(config.depth for config in configs)
        return [costs[config.depth] for config in configs]

    monkeypatch.setattr("resnet_cli.study.estimate._measure", measure)
    return depths


def test_only_the_smallest_and_the_largest_depth_are_timed_and_the_others_interpolated(monkeypatch):
    depths = measured(monkeypatch, {8: Estimate(10, 1000), 56: Estimate(58, 2000)})
    estimates = estimate_runs(jobs(56, 20, 8))
    assert depths == [8, 56]
    assert estimates == {
        "plain-56": Estimate(58, 2000), "plain-20": Estimate(22, 1250), "plain-8": Estimate(10, 1000),
    }  # fmt: skip


def test_networks_of_more_than_110_layers_are_extrapolated(monkeypatch):
    depths = measured(monkeypatch, {20: Estimate(20, None), 110: Estimate(110, None)})
    assert estimate_runs(jobs(20, 110, 1202))["plain-1202"] == Estimate(1202, None)
    assert depths == [20, 110]


def test_one_network_is_timed_once_whatever_the_number_of_its_seeds(monkeypatch):
    depths = measured(monkeypatch, {20: Estimate(5, 7)})
    assert estimate_runs([*jobs(20, seed=0), *jobs(20, seed=1)]) == {"plain-20": Estimate(5, 7)}
    assert depths == [20]


def test_a_measurement_that_fails_leaves_the_cost_unknown(monkeypatch):
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    assert estimate_runs(jobs(8)) == {}
    assert estimate_runs([]) == {}


def test_the_measuring_process_has_a_channel_that_closes_when_this_process_is_killed(tmp_path, monkeypatch):
    script = tmp_path / "python"
    answer = '[{"seconds": 1.0, "memory_bytes": 2}]'
    script.write_text(f"#!/bin/sh\ntest -S /proc/$$/fd/$_RESNET_CHANNEL && echo '{answer}'\n")
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))
    assert estimate_runs(jobs(8)) == {"plain-8": Estimate(1.0, 2)}


def test_a_real_measurement_is_of_the_length_of_the_run_that_was_asked_for():
    short, long = jobs(8, epochs=1, **SMALL), jobs(14, epochs=50, **SMALL)  # a step of it takes twice as long
    estimates = estimate_runs([*short, *long])
    assert 0 < 5 * estimates["plain-8"].seconds < estimates["plain-14"].seconds
    assert estimates["plain-8"].memory_bytes > 10**8  # PyTorch alone takes more


@pytest.mark.parametrize(("status", "left"), [("complete", 0.0), ("diverged", 0.0), ("incomplete", 0.9), ("todo", 1.0)])
def test_the_part_of_a_run_that_is_left_follows_from_its_last_epoch(make_run, tmp_path, status, left):
    out = tmp_path / "plain-20-seed0"
    if status == "todo":
        (job,) = plan([make_config("demo", arch="plain", depth=20)], tmp_path)
    else:
        run = make_run(out, recipe="demo", dataset="digits", epochs=4, status=status)
        (job,) = plan({out.name: run.read_record().config}, tmp_path)
        lines = run.metrics_path.read_text().splitlines(keepends=True)
        run.metrics_path.write_text("".join(lines[:3]))  # two of 20 epochs
    assert part_left(job) == pytest.approx(left)
