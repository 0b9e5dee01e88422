"""Tests, speed and a study on a GPU that is available in short slots only.

    python benchmarks/on_gpu.py --out DIR --data-dir IMAGES [--minutes 9] [--stage tests|speed|study]
    python benchmarks/on_gpu.py --out DIR --data-dir IMAGES --device cpu --tiny    # rehearsal

Runs the stages in order, each step in its own process and only if it fits into the remaining time. DIR then contains
`summary.txt`, `results.json` and the runs as `work-N.tar.*`; given the same DIR, the next slot continues. Works from
the source tree, without network; packages that are missing can be supplied as wheels.

Exit codes: 0 everything is done, 1 a step or test failed, 2 wrong usage, 75 stopped or out of time; run it again.
"""

import argparse
import contextlib
import datetime
import os
import signal
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from gpu import archive, children, study, summary
from gpu.results import ROOT, DamagedError, Record, Results, source_checksums
from gpu.steps import GRAPH_TESTS, Step, steps_of

STAGES = ("tests", "speed", "study")
_CLOSING_SECONDS = 15.0  # kept for the archive and the summary
_TINY_CLOSING_SECONDS = 3.0
_SAVE_EVERY_SECONDS = 60.0
_UNPACK_SECONDS = 60.0  # images: unpacked and decoded
_DONE, _FAILED, _USAGE, _STOPPED = 0, 1, 2, 75


def main(arguments: list[str] | None = None) -> int:
    """Run a slot; returns the exit code."""
    started = time.monotonic()
    args = _arguments(arguments)
    with tempfile.TemporaryDirectory(prefix="resnet-gpu-") as scratch:
        try:
            return Slot(args, Path(scratch), started).run()
        except (DamagedError, tarfile.TarError, zipfile.BadZipFile) as error:
            print(f"on_gpu.py: {error}", file=sys.stderr)
            return _USAGE
        except OSError as error:
            print(f"on_gpu.py: {error}", file=sys.stderr)
            return _FAILED


class Slot:
    """One call of the script.

    Args:
        args: the command line.
        scratch: empty folder, removed afterwards.
        started: when the slot began, by `time.monotonic`.
    """

    def __init__(self, args: argparse.Namespace, scratch: Path, started: float) -> None:
        self.args, self.scratch = args, scratch
        self.work = scratch / "work"
        closing = _TINY_CLOSING_SECONDS if args.tiny else _CLOSING_SECONDS
        self._deadline = started + 60 * args.minutes - closing
        self._signal = ""
        self._last_save = started
        self.notes: list[str] = []
        self._has_failed = False
        args.out.mkdir(parents=True, exist_ok=True)
        self.results = Results(args.out / "results.json", sources=source_checksums(), device=args.device)
        archive.unpack(args.out, self.results.archive, self.work)
        self._setup, *self.steps = steps_of(args.device, tiny=args.tiny)
        self.runs = study.planned_runs(tiny=args.tiny)
        self.environment = self._environment()

    def seconds_left(self) -> float:
        """Time until everything but the closing must be over; 0 after a signal."""
        return 0.0 if self._signal else max(self._deadline - time.monotonic(), 0.0)

    def run(self) -> int:
        """Run the stages and close; returns the exit code."""
        with self._signals():
            try:
                if not self._examine():
                    return self._refuse()
                retried = self._undone("failed", "slow")
                for step in self._undone("planned", "stopped"):
                    self._run_step(step)
                if "study" in self.args.stages:
                    self._train()
                # what has failed before may fail again, so it must not take the time of anything else
                for step in retried:
                    self._run_step(step)
            finally:
                self._save()
        print("\n".join(self._summary()))
        return self._exit_code()

    def _examine(self) -> bool:
        """Examine the environment in every slot, since it may be another machine; returns whether it can be used."""
        values = self._run_step(self._setup)
        record = self.results.find(self._setup.name)
        if not values or record is None:
            return False
        # times on different GPUs are kept apart
        self.results.device = str(values[0]["name"])
        self.results.add(record._replace(device=self.results.device))
        return True

    def _refuse(self) -> int:
        record = self.results.find(self._setup.name)
        print(f"on_gpu.py: {record.reason if record else 'too little time for the first step'}", file=sys.stderr)
        return _FAILED if record and record.state == "failed" else _STOPPED

    def _undone(self, *states: str) -> list[Step]:
        """The steps of the chosen stages that are in one of these states, in order."""
        return [step for step in self.steps if step.stage in self.args.stages and self._state(step) in states]

    def _state(self, step: Step) -> str:
        record = self.results.find(step.name)
        return record.state if record else "planned"

    def _run_step(self, step: Step) -> list[dict[str, Any]]:
        """Run a step if it fits into the time; returns what it has measured."""
        expected = self.results.expected_seconds(step.name) or step.seconds
        if self._signal or expected > self.seconds_left():
            if not self._signal:
                self._report(f"{step.name}: not started, needs about {expected:.0f} s of {self.seconds_left():.0f} s")
            return []
        self._report(f"{step.name}: about {expected:.0f} s, {self.seconds_left():.0f} s left")
        values: list[dict[str, Any]] = []
        log = self.work / "logs" / f"{step.name.replace('/', '-')}.txt"
        log.unlink(missing_ok=True)
        # a step that hangs must not take the time of all others
        limit = max(3 * expected, 120.0)
        ending = children.run(
            [str(ROOT / step.command[0]), *step.command[1:]], environment=self.environment, log=log,
            limit_seconds=limit, is_stopped=lambda: self.seconds_left() == 0, on_value=values.append,
        )  # fmt: skip
        self._report(f"{step.name}: {ending.state} in {ending.seconds:.0f} s {ending.reason}".rstrip())
        self.results.add(
            Record(
                step.name, ending.state, ending.reason, round(ending.seconds, 1),
                self.results.sources[step.stage], self.results.device, _now(), values,
            )
        )  # fmt: skip
        self._write_summary()
        return values

    def _train(self) -> None:
        if self.seconds_left() < (2 if self.args.tiny else _UNPACK_SECONDS):
            self._report("study: not started, too little time left")
            return
        images = self._images()
        on = ["--device", self.args.device]
        fetch = ["-m", "resnet_cli", "data", "fetch", "imagefolder", "--data-dir", str(images), "--quiet", "--json"]
        # once, before the first runs would do it at the same time
        ending = children.run(
            fetch, environment=self.environment, log=self.work / "logs" / "data.txt", limit_seconds=600,
            is_stopped=lambda: self.seconds_left() == 0, on_value=lambda _: None,
        )  # fmt: skip
        if ending.state == "failed":
            self._fail(f"the images cannot be read: {ending.reason}")
            return
        if self.args.device == "cuda":
            on.append("--cuda-graph" if self._graph_is_proven() else "--no-cuda-graph")
            if not self._graph_is_proven():
                self.notes.append("runs do without CUDA graphs: their tests have not all passed with this code")
        concurrency = self.args.share or summary.best_concurrency(
            self.results.values("shared"), self.results.values("step")
        )
        if self.args.tiny:
            concurrency = concurrency or 2
        lab = study.Study(
            self.work / "runs", options=["--dataset", "imagefolder", "--data-dir", str(images), *on],
            environment=self.environment, logs=self.work / "logs", concurrency=concurrency or 1,
            times=study.TINY if self.args.tiny else study.FULL,
        )  # fmt: skip
        self._report(f"study: {concurrency or 1} runs share the device, {self.seconds_left():.0f} s left")
        lab.train(self.runs, self.seconds_left, self._on_progress)
        for name, reason in lab.failures.items():
            self._fail(f"run {name} failed: {reason.replace(f'{self.work}/', '')}")

    def _fail(self, note: str) -> None:
        self._has_failed = True
        self.notes.insert(0, note)

    def _graph_is_proven(self) -> bool:
        """Whether the tests of CUDA graphs without compilation have all passed on this device with this code."""
        record = self.results.find(GRAPH_TESTS)
        if record is None or record.state != "done":  # outcomes of tests before a crash prove nothing
            return False
        outcomes = [value["outcome"] for value in record.values if value["kind"] == "test"]
        return bool(outcomes) and set(outcomes) == {"passed"}

    def _on_progress(self, has_ended: bool) -> None:
        if has_ended or time.monotonic() - self._last_save > _SAVE_EVERY_SECONDS:
            self._save()

    def _images(self) -> Path:
        """The folder of images, unpacked if it is an archive."""
        if self.args.data_dir.is_dir():
            return Path(self.args.data_dir)
        target = self.scratch / "images"
        self._report(f"study: unpacking {self.args.data_dir}")
        with tarfile.open(self.args.data_dir) as images:
            images.extractall(target, filter="data")
        found = [path.parent for path in sorted(target.rglob("train")) if path.is_dir()]
        if not found:
            raise DamagedError(f"{self.args.data_dir} contains no folder named train; expected train/<class>/*")
        return found[0]

    def _environment(self) -> dict[str, str]:
        folders = [str(ROOT), str(ROOT / "benchmarks")]
        if self.args.wheels:
            site = self.scratch / "site"
            for wheel in sorted(self.args.wheels.glob("*.whl")):
                with zipfile.ZipFile(wheel) as packed:
                    packed.extractall(site)  # noqa: S202 - zipfile keeps members inside the folder
            folders.append(str(site))
        inherited = os.environ.get("PYTHONPATH")
        return {
            **os.environ, "PYTHONPATH": os.pathsep.join([*folders, *([inherited] if inherited else [])]),
            # read when cuBLAS creates its first handle, in the tests of deterministic training
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "NO_COLOR": "1",
            # only what the tests need, whatever else is installed
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }  # fmt: skip

    def _save(self) -> None:
        """Write the archive, then the results that describe it, then the summary."""
        self._last_save = time.monotonic()
        packed = archive.pack(self.work, self.args.out, self.results.archive)
        self.results.archive = packed.description
        self.results.save()
        archive.remove_others(self.args.out, packed.description)
        if packed.omitted:
            note = f"the weights of {len(packed.omitted)} complete runs did not fit into the archive"
            self.notes = [*(one for one in self.notes if "did not fit" not in one), note]
        self._write_summary()

    def _write_summary(self) -> None:
        (self.args.out / "summary.txt").write_text("\n".join([*self._summary(), ""]), encoding="utf-8")

    def _summary(self) -> list[str]:
        try:
            return summary.write_lines(self.results, self.steps, self.runs, self.work / "runs", self.notes)
        except Exception as error:  # an unforeseen value must not cost the rest of the slot
            return [f"the summary failed ({error!r}); all values are in results.json"]

    def _exit_code(self) -> int:
        chosen = [step for step in self.steps if step.stage in self.args.stages]
        records = [record for step in chosen if (record := self.results.find(step.name))]
        values = [value for record in records for value in record.values]
        failed = any(record.state in ("failed", "slow") for record in records)
        if failed or any("error" in value or value.get("outcome") == "failed" for value in values) or self._has_failed:
            return _FAILED
        runs = self.runs if "study" in self.args.stages else []
        return _STOPPED if summary.missing_work(self.results, chosen, runs, self.work / "runs") else _DONE

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Let the first stop signal end the slot as its time limit would."""

        def handle(number: int, _: FrameType | None) -> None:
            self._signal = signal.Signals(number).name
            self._report(f"{self._signal}: stopping")

        previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _report(self, text: str) -> None:
        print(f"{text}", file=sys.stderr, flush=True)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, required=True, metavar="DIR", help="results, continued from earlier slots")
    options.add_argument(
        "--data-dir", type=Path, metavar="IMAGES",
        help="folder with train/<class>/* and test/<class>/*, or a tar archive of one; needed for the study",
    )  # fmt: skip
    options.add_argument("--minutes", type=float, default=9.0, help="time limit (default: 9)")
    options.add_argument("--stage", choices=STAGES, help="run this stage only (default: all, in this order)")
    options.add_argument("--wheels", type=Path, metavar="DIR", help="wheels of packages that are missing")
    options.add_argument("--share", type=int, metavar="N", help="runs that share the device (default: as measured)")
    options.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    options.add_argument("--tiny", action="store_true", help="measure and train almost nothing, for a rehearsal")
    args = options.parse_args(arguments)
    args.stages = (args.stage,) if args.stage else STAGES
    if not args.minutes > 0:  # NaN neither
        options.error(f"--minutes must be positive (got {args.minutes:g})")
    if args.share is not None and args.share < 1:
        options.error(f"--share must be at least 1 (got {args.share})")
    if "study" in args.stages and args.data_dir is None:
        options.error("the study needs --data-dir; use --stage tests or --stage speed without it")
    for option, path in (("--data-dir", args.data_dir), ("--wheels", args.wheels)):
        if path is not None and not path.exists():
            options.error(f"{option} {path} does not exist")
    if args.out.exists() and not args.out.is_dir():
        options.error(f"--out {args.out} is not a folder")
    for name in ("out", "data_dir", "wheels"):  # the steps run in the root of the project
        if path := getattr(args, name):
            setattr(args, name, path.resolve())
    return args


if __name__ == "__main__":
    raise SystemExit(main())
