"""A GPU slot: every stage within its time, nothing lost between two slots. Rehearsed without a GPU."""

import json
import os
import signal
import threading
import time

import pytest
from slot_modules import NAME, module

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

    def test_values_of_a_failed_attempt_are_kept_unless_they_are_measured_again(self, bench):
        first, second = ({"kind": "step", "network": "resnet-20", "variant": name} for name in ("tf32", "bf16"))
        printed = [json.dumps({**first, "seconds": 0.002}), json.dumps({**second, "error": "no such kernel"})]
        bench.use({"speed/a": "\n".join([*(f"print({text!r})" for text in printed), "sys.exit(1)"])})
        bench.run()
        bench.use({"speed/a": f"print({json.dumps({**second, 'seconds': 0.001})!r})"})
        assert bench.run() == (0, ["speed/a"])
        assert bench.records()["speed/a"]["values"] == [{**first, "seconds": 0.002}, {**second, "seconds": 0.001}]

    def test_a_step_that_does_not_fit_is_not_started_and_the_exit_code_asks_for_another_slot(self, bench, capsys):
        bench.use({"speed/long": "", "speed/short": ""}, seconds={"speed/long": 100})
        assert bench.run() == (75, ["speed/short"])
        assert "speed/long: not started, needs about 100 s" in capsys.readouterr().err

    def test_a_step_is_stopped_at_the_end_of_the_slot_and_its_values_are_kept(self, bench):
        bench.use({"speed/a": 'print(\'{"kind": "step"}\', flush=True); time.sleep(60)'})
        started = time.monotonic()
        code, _ = bench.run(minutes="0.1")  # 3 s of which are kept for closing
        assert code == 75
        assert time.monotonic() - started < 60
        assert bench.records()["speed/a"]["state"] == "stopped"
        assert bench.records()["speed/a"]["values"] == [{"kind": "step"}]

    def test_changed_code_is_measured_again(self, bench, monkeypatch):
        bench.use({"speed/a": ""})
        bench.run()
        changed = dict.fromkeys(("setup", "tests", "speed"), "other")
        monkeypatch.setattr(bench.on_gpu, "source_checksums", lambda: changed)
        assert bench.run() == (0, ["speed/a"])

    def test_a_change_in_the_tests_does_not_invalidate_measured_times(self, tmp_path):
        checksums = module("gpu.results").source_checksums
        for name in ("resnet_cli/a.py", "tests/b.py", "benchmarks/gpu/c.py", "benchmarks/textbook.py"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("", encoding="utf-8")
        before = checksums(tmp_path)
        (tmp_path / "tests/b.py").write_text("changed", encoding="utf-8")
        after_tests = checksums(tmp_path)
        assert {stage for stage in before if before[stage] != after_tests[stage]} == {"tests"}
        (tmp_path / "benchmarks/textbook.py").write_text("changed", encoding="utf-8")
        after_textbook = checksums(tmp_path)
        assert all(after_tests[stage] != after_textbook[stage] for stage in before)

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
        order = bench.folder / "order"

        def stop_when_it_runs():
            while not order.exists() or "speed/a" not in order.read_text(encoding="utf-8"):
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=stop_when_it_runs, daemon=True).start()
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
        hanging = {"kind": "started", "name": "tests/test_cuda.py::test_y"}
        bench.use({"tests/cuda-eager": f"print({json.dumps(test)!r})\nprint({json.dumps(hanging)!r})"})
        assert bench.run(stage="tests")[0] == 1
        assert "test_x: assert 1 == 2" in bench.summary()
        assert "test_y: did not end" in bench.summary()

    @pytest.mark.parametrize(
        ("outcomes", "ending", "expected"),
        [
            (["passed", "passed"], "", True), (["passed", "failed"], "", False), (["passed", "skipped"], "", False),
            (["passed"], "sys.exit(3)", False), ([], "", False),
        ],
    )  # fmt: skip
    def test_cuda_graphs_are_proven_by_all_of_their_tests_in_a_process_that_ended_well(
        self, bench, outcomes, ending, expected
    ):
        tests = [{"kind": "test", "name": f"test_{i}", "outcome": one, "message": ""} for i, one in enumerate(outcomes)]
        name = bench.steps.GRAPH_TESTS
        other = {"kind": "test", "name": "tests/engine/test_graphs.py::test_cuda_graph", "outcome": "passed"}
        scripts = {
            name: "\n".join([*(f"print({json.dumps(test)!r})" for test in tests), ending]),
            "tests/others": f"print({json.dumps({**other, 'message': ''})!r})",
        }
        bench.use(scripts)
        bench.run(stage="tests")
        args = bench.on_gpu._arguments(["--out", str(bench.out), "--stage", "tests", "--device", "cpu", "--tiny"])
        slot = bench.on_gpu.Slot(args, bench.folder / "scratch", 0.0)
        slot.results.device = NAME
        assert slot._graph_is_proven() is expected

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

    def test_steps_that_failed_before_take_no_time_from_the_study(self, bench, images, plan):
        plan("a")
        bench.use({"speed/bad": "sys.exit(1)"})
        assert bench.run()[0] == 1
        complete = bench.out.parent / "was complete"
        bench.use({"speed/bad": f"open({str(complete)!r}, 'w').write(open({str(bench.out / 'summary.txt')!r}).read())"})
        arguments = [
            "--out",
            str(bench.out),
            "--data-dir",
            str(images),
            "--device",
            "cpu",
            "--tiny",
            "--minutes",
            "0.5",
        ]
        assert bench.on_gpu.main(arguments) == 0
        assert "study: 1 complete" in complete.read_text(encoding="utf-8")

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
