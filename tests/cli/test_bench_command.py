"""`resnet bench` estimates the cost of a recipe, as a table and as JSON, and writes no files."""

import json
import socket

import pytest

from resnet_cli import bench as bench_module
from resnet_cli.bench import Timing
from resnet_cli.cli import bench as command_module
from resnet_cli.cli import output as output_module
from resnet_cli.cli import reproduce
from resnet_cli.cli.app import run as resnet
from resnet_cli.rundir import Decision

FAST = ["bench", "--recipe", "demo", "--device", "cpu", "--compile", "off"]
STEADY = Timing((0.2, 0.1, 0.21), eval_seconds_per_image=0.001, compile_seconds=0.0)


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch):
    monkeypatch.setitem(bench_module._MATRIX_SIZES, "cpu", 64)


@pytest.fixture
def timing(monkeypatch):
    """Replaces measurements by a steady timing; call it with another one."""

    def set_up(timing=STEADY):
        monkeypatch.setattr(bench_module, "measure", lambda *_, **__: timing)

    set_up()
    return set_up


def document(capsys, *arguments):
    assert resnet([*FAST, *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("timing")
class TestResult:
    def test_the_table_of_bench_has_one_row_per_network_and_the_decisions_below_it(self, capsys):
        assert resnet([*FAST, "--steps", "3"]) == 0
        out = capsys.readouterr().out
        lines = out.splitlines()
        assert lines[0].startswith("demo: 20 epochs with batches of 128")
        rows = {line.split()[0]: line for line in lines[2:6]}
        assert list(rows) == ["plain-20", "resnet-20", "plain-56", "resnet-56"]
        cells = rows["plain-20"].split()
        assert cells[1:3] == ["200", "100–210"]
        assert cells[3] == "640"  # 128 images in 0.2 s
        assert "1 min 00 s" in rows["plain-20"]  # 28,740 / 640 + 15,477 * 0.001
        assert "total 4 min 02 s: one run of each network" in out
        assert "device cpu: requested" in lines
        assert "compile off: requested" in lines
        assert any(line.startswith("matrix peak ") and "64×64 matrices in fp32" in line for line in lines)
        assert "\x1b" not in out

    def test_bench_does_not_truncate_numbers_on_a_narrow_terminal(self, capsys, monkeypatch):
        monkeypatch.setattr(output_module, "_PIPE_WIDTH", 50)
        assert resnet([*FAST, "--arch", "plain", "--depth", "8"]) == 0
        out = capsys.readouterr().out
        assert "…" not in out
        assert max(map(len, out.splitlines())) <= 50

    def test_bench_json_has_all_numbers_in_base_units(self, capsys):
        result = document(capsys)
        assert (result["schema_version"], result["recipe"], result["dataset"]) == (1, "demo", "digits")
        assert [row["network"] for row in result["networks"]] == ["plain-20", "resnet-20", "plain-56", "resnet-56"]
        row = result["networks"][0]
        assert (row["num_epochs"], row["num_train_images"], row["num_eval_images"]) == (20, 28_740, 15_477)
        assert (row["step_seconds"], row["step_seconds_min"], row["step_seconds_max"]) == (0.2, 0.1, 0.21)
        assert (row["batch_size"], row["num_timed_steps"]) == (128, 3)
        assert row["peak_memory_bytes"] > 0
        peak = result["matrix_peak"]
        assert peak["precision"] == "fp32"
        assert row["matrix_peak_fraction"] == pytest.approx(row["flops_per_second"] / peak["flops_per_second"])
        assert row["decisions"]["compile"] == {"value": "off", "reason": "requested"}
        assert result["total_seconds"] == pytest.approx(sum(row["total_seconds"] for row in result["networks"]))

    def test_bench_quiet_prints_the_result_and_warns_only_of_a_noisy_measurement(self, capsys, timing):
        for slowest, warning in ((0.15, ""), (0.31, "warning: plain-8: the slowest step took 3.1 times the median")):
            timing(STEADY._replace(step_seconds=(0.1, 0.1, slowest)))
            assert resnet([*FAST, "--arch", "plain", "--depth", "8", "--quiet"]) == 0
            captured = capsys.readouterr()
            assert captured.err.partition(" (")[0] == warning
            assert "total" in captured.out

    def test_bench_shows_decisions_that_differ_per_network(self, capsys, monkeypatch, timing):
        timing(STEADY._replace(compile_seconds=84.0))
        real = bench_module.setup_for

        def setup_for(config, dataset):
            setup = real(config, dataset)
            value = "on" if config.depth == 56 else "off"
            return setup._replace(decisions={**setup.decisions, "compile": Decision(value, f"depth {config.depth}")})

        monkeypatch.setattr(bench_module, "setup_for", setup_for)
        assert resnet([*FAST, "--arch", "resnet"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "compile off for resnet-20: depth 20" in lines
        assert "compile on for resnet-56: depth 56" in lines
        assert "—" in next(line for line in lines if line.startswith("resnet-20"))
        assert "1 min 24 s" in next(line for line in lines if line.startswith("resnet-56"))

    @pytest.mark.parametrize(
        ("arguments", "networks"),
        [
            (["--depth", "8"], ["plain-8", "resnet-8"]),
            (["--arch", "resnet"], ["resnet-20", "resnet-56"]),
            (["--shortcut", "B", "--depth", "14"], ["plain-14", "resnet-14-B"]),
        ],
    )
    def test_bench_measures_the_networks_of_the_study_unless_options_select_others(self, capsys, arguments, networks):
        assert [row["network"] for row in document(capsys, *arguments)["networks"]] == networks

    def test_options_of_bench_override_the_recipe(self, capsys):
        network = ("--arch", "plain", "--depth", "8", "--recipe", "report2025")
        result = document(
            capsys, *network, "--dataset", "digits", "--epochs", "3", "--batch-size", "64", "--precision", "bf16"
        )
        (row,) = result["networks"]
        assert (result["dataset"], row["num_epochs"], row["batch_size"]) == ("digits", 3, 64)
        assert result["matrix_peak"]["precision"] == "bf16"


def test_bench_and_reproduce_use_the_same_configurations_by_default(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(reproduce, "_reproduce", lambda jobs, *_: seen.append([job.config for job in jobs]))
    monkeypatch.setattr(command_module, "_bench", lambda configs, *_: seen.append(configs))
    for recipe in ("demo", "report2025", "he2015"):
        assert resnet(["reproduce", "--recipe", recipe]) == 0
        assert resnet(["bench", "--recipe", recipe]) == 0
        assert seen[-1] == seen[-2]


def test_bench_works_offline_and_writes_no_files(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("RESNET_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    assert resnet([*FAST, "--depth", "8", "--steps", "1", "--dataset", "cifar10", "--batch-size", "8"]) == 0
    captured = capsys.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines()[2:4]] == ["plain-8", "resnet-8"]
    assert "timing resnet-8: 5 of 5 steps" in captured.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "plain", "--shortcut", "B"], "--shortcut 'B' does not fit --arch 'plain'"),
        (["--recipe", "he2016"], "unknown recipe 'he2016'"),
        (["--recipe", "he2015", "--dataset", "digits"], "--val-size must be between 10 and 1427 (got 5000)"),
        (["--steps", "0"], "--steps"),
        (["--precision", "fp16"], "--precision fp16 needs a CUDA device"),
    ],
)
def test_wrong_usage_of_bench_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert resnet([*FAST, *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("error: ") == 1
    assert message in captured.err
