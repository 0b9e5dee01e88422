"""A GPU slot: every stage within its time, nothing lost between two slots. Rehearsed without a GPU."""

import importlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
NAME = "test GPU"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)


def module(name):
    return importlib.import_module(name)


ENVIRONMENT = f'print(\'{{"kind": "environment", "name": "{NAME}", "torch": "2.11", "python": "3.12", \'' + (
    "'\"copy_bytes_per_second\": 3e12}')"
)  # what the first step prints


class Bench:
    """A folder with a slot's output, and steps that are one-line scripts."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.out = folder, folder / "out"
        self.on_gpu, self.steps = module("on_gpu"), module("gpu.steps")
        self._monkeypatch = monkeypatch
        self.use({})

    def use(self, scripts, *, environment=ENVIRONMENT, seconds=None):
        """Replace the steps by scripts, by name; each notes that it ran. `seconds` are expected times, by name."""
        found = []
        for name, body in {"setup/environment": environment, **scripts}.items():
            path = self.folder / f"{name.replace('/', '-')}.py"
            note = f"open({str(self.folder / 'order')!r}, 'a').write({name + ' '!r})"
            path.write_text(f"import sys, time\n{note}\n{body}\n", encoding="utf-8")
            found.append(self.steps.Step(name, (seconds or {}).get(name, 0.1), (str(path),)))
        self._monkeypatch.setattr(self.on_gpu, "steps_of", lambda device, tiny: found)

    def run(self, *arguments, stage="speed", minutes="0.5"):
        order = self.folder / "order"
        order.unlink(missing_ok=True)
        command = ["--out", str(self.out), "--stage", stage, "--minutes", minutes, "--device", "cpu", "--tiny"]
        code = self.on_gpu.main([*command, *arguments])
        ran = order.read_text(encoding="utf-8").split() if order.exists() else []
        return code, [name for name in ran if name != "setup/environment"]

    def records(self):
        document = json.loads((self.out / "results.json").read_text(encoding="utf-8"))
        return {record["step"]: record for record in document["records"]}

    def summary(self):
        return (self.out / "summary.txt").read_text(encoding="utf-8")


@pytest.fixture
def bench(tmp_path, monkeypatch):
    return Bench(tmp_path, monkeypatch)


class TestSteps:
    def test_steps_run_in_order_and_are_not_repeated_in_the_next_slot(self, bench):
        bench.use({"speed/b": "", "speed/a": ""})
        assert bench.run() == (0, ["speed/b", "speed/a"])
        assert bench.run() == (0, [])
        assert "speed: 2 of 2 steps done" in bench.summary()

    def test_what_a_step_prints_is_kept_even_if_it_fails_later(self, bench):
        value = {"kind": "step", "network": "resnet-20", "variant": "fp32", "seconds": 0.002}
        bench.use({"speed/a": f"print({json.dumps(value)!r}, flush=True); sys.exit('no such kernel')"})
        assert bench.run() == (1, ["speed/a"])
        record = bench.records()["speed/a"]
        assert (record["state"], record["reason"], record["values"]) == ("failed", "no such kernel", [value])
        assert "speed/a failed: no such kernel" in bench.summary()
        assert "resnet-20, ms per step: fp32 2.000" in bench.summary()

    def test_a_step_that_failed_is_tried_again_after_all_others(self, bench):
        bench.use({"speed/a": "sys.exit(3)", "speed/b": "sys.exit(3)"})
        bench.run()
        bench.use({"speed/a": "", "speed/new": "", "speed/b": ""})
        assert bench.run() == (0, ["speed/new", "speed/a", "speed/b"])

    def test_a_step_that_does_not_fit_is_not_started_and_the_exit_code_asks_for_another_slot(self, bench, capsys):
        bench.use({"speed/long": "", "speed/short": ""}, seconds={"speed/long": 100})
        assert bench.run() == (75, ["speed/short"])
        assert "speed/long: not started, needs about 100 s" in capsys.readouterr().err

    def test_a_step_is_stopped_at_the_end_of_the_slot_and_its_values_are_kept(self, bench):
        bench.use({"speed/a": 'print(\'{"kind": "step"}\', flush=True); time.sleep(60)'})
        started = time.monotonic()
        code, _ = bench.run(minutes="0.075")  # 3 s of which are kept for closing
        assert code == 75
        assert time.monotonic() - started < 15
        assert bench.records()["speed/a"]["state"] == "stopped"
        assert bench.records()["speed/a"]["values"] == [{"kind": "step"}]

    def test_changed_code_is_measured_again(self, bench, monkeypatch):
        bench.use({"speed/a": ""})
        bench.run()
        monkeypatch.setattr(bench.on_gpu, "source_checksum", lambda: "other")
        assert bench.run() == (0, ["speed/a"])

    def test_another_gpu_is_measured_again(self, bench):
        bench.use({"speed/a": ""})
        bench.run()
        bench.use({"speed/a": ""}, environment=ENVIRONMENT.replace(NAME, "other GPU"))
        assert bench.run() == (0, ["speed/a"])

    def test_an_environment_that_lacks_packages_ends_the_slot_with_one_line(self, bench, capsys):
        bench.use({"speed/a": ""}, environment="sys.exit('missing packages: msgspec; give their wheels with --wheels')")
        assert bench.run() == (1, [])
        assert capsys.readouterr().err.splitlines()[-1] == (
            "on_gpu.py: missing packages: msgspec; give their wheels with --wheels"
        )

    def test_a_stop_signal_ends_the_step_and_the_slot(self, bench):
        bench.use({"speed/a": "time.sleep(60)", "speed/b": ""})
        timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        assert bench.run() == (75, ["speed/a"])
        assert bench.records()["speed/a"]["state"] == "stopped"

    def test_wheels_are_unpacked_for_the_steps(self, bench):
        import zipfile

        (bench.folder / "wheels").mkdir()
        with zipfile.ZipFile(bench.folder / "wheels" / "carried-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("carried.py", "")
        bench.use({"speed/a": "import carried"})
        assert bench.run("--wheels", str(bench.folder / "wheels")) == (0, ["speed/a"])

    def test_a_failed_test_makes_the_exit_code_1_and_is_named(self, bench):
        test = {"kind": "test", "name": "tests/test_cuda.py::test_x", "outcome": "failed", "message": "assert 1 == 2"}
        bench.use({"tests/cuda": f"print({json.dumps(test)!r})"})
        assert bench.run(stage="tests")[0] == 1
        assert "test_x: assert 1 == 2" in bench.summary()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--minutes", "0"], "--minutes must be positive"), (["--minutes", "nan"], "--minutes must be positive"),
            (["--share", "0"], "--share must be at least 1"), (["--stage", "study"], "the study needs --data-dir"),
            (["--wheels", "nowhere"], "--wheels nowhere does not exist"),
        ],
    )  # fmt: skip
    def test_wrong_usage_is_one_line_and_exit_code_2(self, bench, capsys, arguments, message):
        with pytest.raises(SystemExit) as caught:
            bench.run(*arguments)
        assert caught.value.code == 2
        assert message in capsys.readouterr().err

    def test_a_damaged_file_of_results_is_refused_and_kept(self, bench, capsys):
        bench.out.mkdir()
        (bench.out / "results.json").write_text("{", encoding="utf-8")
        assert bench.run() == (2, [])
        assert "results.json is damaged" in capsys.readouterr().err
        assert (bench.out / "results.json").read_text(encoding="utf-8") == "{"


# Stands for `resnet`: a run is five steps long, and takes one step per 0.1 s.
RESNET = """
import pathlib, signal, sys, time
if sys.argv[1] == "data":
    sys.exit(0)
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
if "bad" in out.name:
    sys.exit(f"error: {out} is bad")
state = out / "checkpoints" / "resume.safetensors"
state.parent.mkdir(parents=True, exist_ok=True)
(out / "weights").mkdir(exist_ok=True)
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
for step in range(int(state.read_text()) if state.exists() else 0, 5):
    if stopped:
        sys.exit(75)
    time.sleep(LENGTH)
    state.write_text(str(step + 1))
(out / "weights" / "last.safetensors").write_text("weights")
(out / "summary.json").write_text("{}")
"""


class TestStudy:
    @pytest.fixture
    def images(self, tmp_path):
        (tmp_path / "images" / "train").mkdir(parents=True)
        return tmp_path / "images"

    @pytest.fixture
    def plan(self, bench, images, monkeypatch):
        """Replaces the runs of the study and `resnet` itself."""
        study = module("gpu.study")

        def replace(*names, length=0.01, stop=2.0):
            package = bench.folder / "fake" / "resnet_cli"
            package.mkdir(parents=True, exist_ok=True)
            (package / "__init__.py").touch()
            (package / "__main__.py").write_text(RESNET.replace("LENGTH", str(length)), encoding="utf-8")
            runs = [study.Run(name, ("--seed", "0")) for name in names]
            monkeypatch.setattr(study, "planned_runs", lambda tiny: runs)
            monkeypatch.setattr(study, "TINY", study.StudyTime(start=0.5, stop=stop))
            original = bench.on_gpu.Slot._environment
            monkeypatch.setattr(
                bench.on_gpu.Slot, "_environment",
                lambda slot: {**original(slot), "PYTHONPATH": str(package.parent), "PYTHONSAFEPATH": "1"},
            )  # fmt: skip

        return replace

    def run(self, bench, images, **options):
        return bench.run("--data-dir", str(images), stage="study", **options)[0]

    def test_all_runs_are_trained_and_found_again_by_the_next_slot(self, bench, images, plan):
        plan("a", "b", "c")
        assert self.run(bench, images) == 0
        assert "study: 3 complete" in bench.summary()
        assert self.run(bench, images) == 0
        assert "study: 3 complete" in bench.summary()

    def test_at_the_end_of_the_slot_runs_save_and_the_next_slot_continues_them_first(self, bench, images, plan):
        plan("a", "b", "c", length=1.0)
        assert self.run(bench, images, minutes="0.12") == 75
        assert "study: 1 planned, 2 started" in bench.summary()
        plan("c", "a", "b")
        assert self.run(bench, images) == 0

    def test_a_run_that_fails_is_named_without_stopping_the_others(self, bench, images, plan):
        plan("bad", "a", "b")
        assert self.run(bench, images) == 1
        assert "study: 2 complete, 1 planned" in bench.summary()
        assert "note: run bad failed: error: runs/bad is bad" in bench.summary()

    def test_after_three_failures_no_other_run_is_started(self, bench, images, plan):
        plan("bad1", "bad2", "bad3", "a")
        assert bench.run("--data-dir", str(images), "--share", "1", stage="study")[0] == 1
        assert "study: 4 planned" in bench.summary()

    def test_an_archive_of_images_is_unpacked(self, bench, images, plan, tmp_path):
        import tarfile

        with tarfile.open(tmp_path / "images.tar.xz", "w:xz") as archive:
            archive.add(images, "some/folder")
        plan("a")
        assert self.run(bench, tmp_path / "images.tar.xz") == 0

    def test_an_archive_without_images_is_refused(self, bench, plan, tmp_path, capsys):
        import tarfile

        with tarfile.open(tmp_path / "images.tar.xz", "w:xz"):
            pass
        plan("a")
        assert self.run(bench, tmp_path / "images.tar.xz") == 2
        assert "contains no folder named train" in capsys.readouterr().err

    @pytest.mark.parametrize("tiny", [False, True])
    def test_the_options_of_every_planned_run_are_valid(self, tiny):
        from resnet_cli.config import FIELDS
        from resnet_cli.recipes import make_config

        runs = module("gpu.study").planned_runs(tiny=tiny)
        assert len({run.name for run in runs}) == len(runs)
        for run in runs:
            names = [name.removeprefix("--").replace("-", "_") for name in run.arguments[::2]]
            values = dict(zip(names, run.arguments[1::2], strict=True))
            assert set(values) <= {"recipe", *FIELDS}
            milestones = {"milestones": ()} if "milestones" in values else {}
            numbers = {name: int(value) for name, value in values.items() if value.isdigit()}
            make_config(**{**values, **numbers, **milestones})

    def test_the_first_runs_are_those_of_table_1(self):
        runs = module("gpu.study").planned_runs(tiny=False)
        assert [run.name for run in runs[:4]] == [
            f"report2025-{arch}-{depth}-seed0" for depth in (20, 56) for arch in ("plain", "resnet")
        ]


class TestArchive:
    @pytest.fixture
    def work(self, tmp_path):
        """A complete and a started run, with files of a few bytes."""
        work = tmp_path / "work"
        for run, extra in (("complete", ["summary.json", "predictions.npz"]), ("started", [])):
            names = ["run.json", "metrics.csv", ".lock", "checkpoints/resume.safetensors", "weights/best.safetensors"]
            for name in [*names, "weights/last.safetensors", *extra]:
                path = work / "runs" / run / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(f"{run} {name}".encode() * 50)
        (work / "logs").mkdir()
        (work / "logs" / "a.txt").write_text("log", encoding="utf-8")
        return work

    def pack(self, work, out, **options):
        out.mkdir(exist_ok=True)
        return module("gpu.archive").pack(work, out, None, **options)

    def restored(self, out, description, folder):
        module("gpu.archive").unpack(out, description, folder)
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    def test_a_started_run_keeps_what_resumes_it_and_a_complete_one_its_results(self, work, tmp_path):
        packed = self.pack(work, tmp_path / "out")
        found = self.restored(tmp_path / "out", packed.description, tmp_path / "again")
        assert found == {
            "logs/a.txt", "runs/complete/metrics.csv", "runs/complete/predictions.npz", "runs/complete/run.json",
            "runs/complete/summary.json", "runs/complete/weights/last.safetensors",
            "runs/started/checkpoints/resume.safetensors", "runs/started/metrics.csv", "runs/started/run.json",
            "runs/started/weights/best.safetensors",
        }  # fmt: skip
        for name in found:
            assert (tmp_path / "again" / name).read_bytes() == (work / name).read_bytes()

    def test_empty_folders_are_restored_too(self, work, tmp_path):
        for path in (work / "runs" / "started" / "weights").iterdir():
            path.unlink()
        self.restored(tmp_path / "out", self.pack(work, tmp_path / "out").description, tmp_path / "again")
        assert (tmp_path / "again" / "runs" / "started" / "weights").is_dir()

    def test_parts_are_no_larger_than_asked_and_join_to_the_same_files(self, work, tmp_path):
        packed = self.pack(work, tmp_path / "out", part_bytes=4000)
        sizes = [path.stat().st_size for path in (tmp_path / "out").iterdir()]
        assert len(sizes) > 2
        assert max(sizes) == 4000
        assert len(self.restored(tmp_path / "out", packed.description, tmp_path / "again")) == 10

    def test_only_weights_of_complete_runs_are_omitted_where_space_is_short(self, work, tmp_path):
        packed = self.pack(work, tmp_path / "out", max_bytes=1)
        assert packed.omitted == ["runs/complete/weights/last.safetensors"]
        assert len(self.restored(tmp_path / "out", packed.description, tmp_path / "again")) == 9

    def test_a_new_archive_replaces_the_old_one_only_when_asked(self, work, tmp_path):
        archive, out = module("gpu.archive"), tmp_path / "out"
        first = self.pack(work, out).description
        second = archive.pack(work, out, first).description
        archive.unpack(out, first, tmp_path / "again")
        archive.remove_others(out, second)
        assert [path.name for path in out.iterdir()] == ["work-2.tar.00"]

    @pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"other")])
    def test_a_missing_or_damaged_part_is_refused(self, work, tmp_path, damage):
        description = self.pack(work, tmp_path / "out").description
        damage(tmp_path / "out" / "work-1.tar.00")
        with pytest.raises(module("gpu.results").DamagedError, match=r"work-1\.tar\.00 is missing or damaged"):
            module("gpu.archive").unpack(tmp_path / "out", description, tmp_path / "again")


class TestChildren:
    def run(self, tmp_path, body, *, limit=20.0, is_stopped=lambda: False):
        (tmp_path / "child.py").write_text(textwrap.dedent(body), encoding="utf-8")
        values = []
        ending = module("gpu.children").run(
            [str(tmp_path / "child.py")], environment=dict(os.environ), log=tmp_path / "log", limit_seconds=limit,
            is_stopped=is_stopped, on_value=values.append,
        )  # fmt: skip
        return ending, values

    def test_lines_that_are_no_json_objects_are_ignored(self, tmp_path):
        ending, values = self.run(tmp_path, "print('text'); print(1); print('{\"a\": 1}'); print('{\"b\"')")
        assert (ending.state, values) == ("done", [{"a": 1}])

    def test_a_process_over_its_limit_is_stopped(self, tmp_path):
        ending, _ = self.run(tmp_path, "import time; time.sleep(60)", limit=0.5)
        assert (ending.state, ending.reason) == ("slow", "took longer than 0 s")

    def test_processes_that_ignore_sigterm_end_with_their_children(self, tmp_path, monkeypatch):
        children = module("gpu.children")
        monkeypatch.setattr(children.stop, "__defaults__", (0.3,))
        body = """
            import signal, subprocess, sys, time
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            print('{"pid": %d}' % child.pid, flush=True)
            time.sleep(60)
        """
        _, values = self.run(tmp_path, body, limit=1.0)
        stat = Path(f"/proc/{values[0]['pid']}/stat")
        for _ in range(100):
            # gone, or a zombie that its new parent has not collected yet
            if not stat.exists() or stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "ZX":
                break
            time.sleep(0.05)
        else:
            pytest.fail("the child of the process is still running")


class TestSummary:
    def summarize(self, tmp_path, values, **options):
        results = module("gpu.results").Results(tmp_path / "results.json", source="abc", device=NAME)
        record = module("gpu.results").Record("speed/all", "done", "", 1.0, "abc", NAME, "", values)
        results.add(record)
        notes = options.get("notes", [])
        return module("gpu.summary").write_lines(results, [], options.get("runs", []), tmp_path / "runs", notes)

    @staticmethod
    def step(network, variant, seconds):
        return {"kind": "step", "network": network, "variant": variant, "seconds": seconds}

    def test_the_best_variant_is_compared_with_the_goal(self, tmp_path):
        values = [
            self.step("resnet-20", "tf32", 2e-3), self.step("resnet-20", "tf32, graph", 5.5e-4),
            self.step("resnet-20", "textbook", 1e-4), self.step("resnet-56", "tf32, graph", 1.7e-3),
        ]  # fmt: skip
        lines = self.summarize(tmp_path, values)
        assert "goal resnet-20 step ≤ 0.6 ms: reached, 0.550 ms (tf32, graph)" in lines
        assert "goal resnet-56 step ≤ 1.6 ms: missed, 1.700 ms (tf32, graph)" in lines

    def test_the_estimate_of_table_1_adds_epochs_evaluations_and_starts(self, tmp_path):
        epoch = {"kind": "epoch", "variant": "tf32, graph", "first_seconds": 11.0, "seconds": 1.0}
        networks = ("plain-20", "resnet-20", "plain-56", "resnet-56")
        values = [{**epoch, "network": name, "with_clean_error_seconds": 1.5} for name in networks]
        # each: 10 s to start, 200 epochs of 1 s and 20 evaluations of 0.5 s
        assert module("gpu.summary").table1_seconds(
            {(value["network"], value["variant"]): value for value in values}
        ) == pytest.approx(4 * 220)
        assert "goal Table 1 in sequence ≤ 8 min (estimate): missed, 14.7 min" in self.summarize(tmp_path, values)

    def test_an_epoch_is_compared_with_the_textbook_trainer(self, tmp_path):
        values = [
            {"kind": "epoch", "network": "resnet-20", "variant": variant, "seconds": seconds, "first_seconds": seconds,
             "with_clean_error_seconds": seconds}
            for variant, seconds in (("tf32, graph", 0.5), ("textbook, 8 workers", 6.0))
        ]  # fmt: skip
        assert "goal resnet-20 epoch ≥ 10 × the textbook loop: reached, 12.0 ×" in self.summarize(tmp_path, values)

    def test_the_summary_has_at_most_60_lines_and_keeps_the_notes(self, tmp_path):
        values = [self.step(f"resnet-{i}", "fp32", 1.0) for i in range(100)]
        lines = self.summarize(tmp_path, values, notes=[f"note {i}" for i in range(9)])
        assert len(lines) == 60
        assert lines[-1] == "note: note 5"
        assert "more lines; all values are in results.json" in lines[-7]

    def test_runs_share_the_device_only_if_together_they_are_faster(self):
        steps = [self.step("resnet-20", "tf32, graph", 0.001), self.step("resnet-56", "tf32, graph", 0.002)]
        shared = {"how": "processes", "networks": ["plain-20", "resnet-20", "plain-56", "resnet-56"]}
        best = module("gpu.summary").best_concurrency
        assert best([{**shared, "steps_per_second": [300, 300, 150, 150]}], steps) == 4  # 0.3 of alone, four times
        assert best([{**shared, "steps_per_second": [200, 200, 100, 100]}], steps) == 1
        assert best([], steps) is None


def test_the_outcome_of_each_test_is_printed_as_json(tmp_path):
    (tmp_path / "test_some.py").write_text(
        "import pytest\ndef test_good(): pass\ndef test_bad(): assert 1 == 2\n"
        "def test_skipped(): pytest.skip('why')\n@pytest.fixture\ndef broken(): raise ValueError('x')\n"
        "def test_set_up(broken): pass\n",
        encoding="utf-8",
    )
    command = [sys.executable, str(FOLDER / "gpu" / "run_tests.py"), str(tmp_path / "test_some.py")]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # starts faster
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    outcomes = {value["name"].rpartition("::")[2]: value for value in map(json.loads, done.stdout.splitlines())}
    assert {name: value["outcome"] for name, value in outcomes.items()} == {
        "test_good": "passed", "test_bad": "failed", "test_skipped": "skipped", "test_set_up": "failed",
    }  # fmt: skip
    assert outcomes["test_bad"]["message"] == "assert 1 == 2"


MEASUREMENTS = [
    "speed/steps-8-graph-eager-textbook", "speed/epochs", "speed/textbook-epoch-8",
    "speed/shared-streams", "speed/profile-8", "speed/traffic-8", "setup/environment",
]  # fmt: skip


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_every_measurement_runs_in_a_rehearsal_without_an_error(name, monkeypatch, capsys):
    import torch

    def numbers():
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark

    before = numbers()
    (step,) = (step for step in module("gpu.steps").steps_of("cpu", tiny=True) if step.name == name)
    monkeypatch.setattr(sys, "argv", list(step.command))
    try:
        module("gpu.measure").main()
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before[1:]
    values = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert values
    assert not [value for value in values if "error" in value]


def test_a_gpu_slot_measures_in_full_size_all_that_a_rehearsal_measures():
    steps_of = module("gpu.steps").steps_of
    assert len(steps_of("cuda", tiny=False)) == len(steps_of("cpu", tiny=True))
    for step in steps_of("cuda", tiny=False):
        assert (ROOT / step.command[0]).is_file()
        assert "--tiny" not in step.command
        assert all((ROOT / name).exists() for name in step.command if name.startswith("tests/"))


def test_traffic_counts_the_bytes_of_operations_but_not_of_views():
    import torch

    with module("gpu.traffic").TrafficCounter() as counter:
        x = torch.ones(10)
        y = (x.view(2, 5) + 1).t()
    assert y.shape == (5, 2)
    # 40 bytes written by `ones` (and read if it fills), 40 read and 40 written by the sum
    assert counter.total in (120, 160)
