"""Attack runs, files and locks at random until the time is up, and count what happened.

    python benchmarks/stress.py --minutes 60 [--seed 0] [--only signals,mutations,weights,swaps,starts]

Runs are a network of eight layers on 300 of the embedded digits, in several configurations. The attacks share the time:

signals    a run is interrupted by SIGKILL, SIGTERM and SIGINT at random moments and resumed until it is complete; it
           must end bit-identical to an uninterrupted one, and every file must be readable after each interruption
mutations  a run directory is damaged in up to three ways; compare, plot, eval, gradflow and train must use it or name
           it in one line, within 30 s and 1.5 GiB, and change no other run; a run that is resumed must end as it should
weights    a weight file in one of three formats is damaged at random; eval must measure it or refuse it in one line
swaps      a file of a run is replaced with that of another run; the commands that read it must notice
starts     several processes start the same run at once, and sometimes its lock file is removed; one of them trains it,
           and the result must be bit-identical

Exits with code 1 at the first violation and keeps the files of that attack.
"""

import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import torch
from where import command_line, parser, where

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "hostile")]
os.environ["OMP_NUM_THREADS"] = "1"

import sameness  # noqa: E402 (after the path to it)
from killing import Subject  # noqa: E402
from launching import Launcher  # noqa: E402
from mutations import all_mutations  # noqa: E402
from watch import watched  # noqa: E402
from weight_mutations import mutations_of_weights  # noqa: E402

from resnet_cli.rundir import RunDir  # noqa: E402
from resnet_cli.weights import read_weights  # noqa: E402

CONFIGURATIONS = [
    {"arch": "plain"}, {"arch": "resnet"}, {"arch": "resnet", "shortcut": "B"}, {"arch": "resnet", "momentum": 0.0},
    {"arch": "plain", "val_size": 60}, {"arch": "resnet", "gradflow_every": 0, "clean_train_every": 1},
    {"arch": "plain", "limit_train": 310, "seed": 7},
]  # fmt: skip
EPOCHS = 6
# until a run is left to finish
MOST_SIGNALS = 8
# of this process; each attack has a stricter limit of its own
MOST_MEMORY_BYTES = 8 * 2**30
_READABLE_BYTES = 10**8
ATTACKS = ("signals", "mutations", "weights", "swaps", "starts")
TABLES = ("compare", "plot")
NETWORKS = (["eval", "--device", "cpu", "--limit-test", "10"],
            ["gradflow", "--device", "cpu", "--batches", "1", "--batch-size", "4"])  # fmt: skip
SWAPPED = {
    "metrics.csv": "plot", "gradflow.csv": "plot", "predictions.npz": "plot", "summary.json": "compare",
    "run.json": "compare", "weights/last.safetensors": "eval", "weights/best.safetensors": "eval",
}  # fmt: skip


class Capture:
    """Collects what this process prints on stdout and stderr, as pytest's `capfd` does."""

    def __enter__(self):
        self._saved = [os.dup(1), os.dup(2)]
        self._files = [tempfile.TemporaryFile("w+", errors="surrogateescape") for _ in range(2)]  # noqa: SIM115
        for descriptor, file in enumerate(self._files, start=1):
            os.dup2(file.fileno(), descriptor)
        return self

    def __exit__(self, *_):
        self.readouterr()
        for descriptor, saved in enumerate(self._saved, start=1):
            os.dup2(saved, descriptor)
            os.close(saved)

    def readouterr(self):
        """What was printed since the last call."""
        sys.stdout.flush()
        sys.stderr.flush()
        texts = []
        for file in self._files:
            file.seek(0)
            texts.append(file.read())
            file.seek(0)
            file.truncate()
        return texts


class Stress:
    """The attacks, one method each: it makes one attempt and counts its outcome, or raises `AssertionError`."""

    def __init__(self, folder, seed):
        self.folder, self.rng, self.found = folder, random.Random(seed), Counter()  # noqa: S311 (moments and damage)
        self.launcher = Launcher(folder)
        self.subjects = [Subject(folder, epochs=EPOCHS, **fields) for fields in CONFIGURATIONS]
        self.seconds = max(subject.train_straight(self.launcher) for subject in self.subjects)
        self.mutations = [*all_mutations(seed), *mutations_of_weights()]

    def count(self, outcome):
        self.found[outcome] += 1

    def pause(self, most=1.0):
        """Wait for a share of the time of a run, up to `most`, more often a short one."""
        time.sleep(most * self.seconds * self.rng.random() ** 2)

    def attack_signals(self):
        subject, num_signals = self.rng.choice(self.subjects), 0
        run = RunDir(subject.new_out())
        while run.status() != "complete":
            process = self.launcher.start(*subject.command(run.path))
            if num_signals < MOST_SIGNALS:
                self.pause()
                number = self.rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
                process.send_signal(number)
                num_signals += 1
            code = process.wait()
            # before the first step, a signal ends the process in the usual way; before its start, without a word
            is_expected = code in (0, 75, 130, -signal.SIGKILL, -signal.SIGTERM) or process.output() == ""
            assert is_expected, (code, process.output())
            self.count(f"signals: processes that ended with {code}")
            sameness.assert_readable(run)
        subject.compare(run)
        self.count("signals: runs completed, bit-identical")
        shutil.rmtree(run.path)

    def attack_mutations(self):
        subject, other = self.rng.sample(self.subjects, 2)
        tree = self.folder / "tree" / "runs"
        for name, source in {"good-plain": other, "m": subject}.items():
            shutil.copytree(source.straight_run.path, tree / name)
        if self.rng.random() < 0.3:
            (tree / "m" / "summary.json").unlink()
        chosen = self.rng.sample(self.mutations, self.rng.randint(1, 3))
        for mutation in chosen:
            # a file that is damaged already may not take another mutation
            with contextlib.suppress(Exception):
                # the folder may have been renamed
                if (tree / "m").is_dir() and all(_is_plain(path) for path in (tree / "m").rglob("*")):
                    mutation.apply(tree / "m", self.rng)
        before = _files(tree / "good-plain")
        damaged = next((path for path in tree.iterdir() if path.name != "good-plain"), tree / "m")
        kind = self.rng.choice(["compare", "plot", "eval", "gradflow", "train"])
        with Capture() as capture, _working_in(tree.parent):
            if kind in TABLES:
                said = watched(capture, [kind, "runs", "--json"])
                assert said.code == 0, said
                document = json.loads(said.out)
                if kind == "compare":
                    counted = sum(row["n"] for row in document["networks"]) + len(document["skipped"])
                    assert counted == len(_run_folders(tree)), (chosen, said)
            elif kind == "train":
                said = watched(capture, [*map(str, subject.command(damaged))])
                if said.code == 0 and not said.err.count("already complete"):
                    tensors = "weights, momentum and statistics"
                    assert sameness.parts(RunDir(damaged))[tensors] == subject.straight[tensors], chosen
            else:
                said = watched(capture, [*NETWORKS[kind == "gradflow"], damaged, "--json"])
        assert _files(tree / "good-plain") == before, chosen
        self.count(f"mutations: {kind} ended with {said.code}")
        _remove(tree.parent)

    def attack_weights(self):
        subject, path = self.rng.choice(self.subjects), self.folder / "weights.bin"
        form = self.rng.choice(["safetensors", "zip", "legacy"])
        data = subject.straight_run.last_weights_path.read_bytes()
        if form != "safetensors":
            state = read_weights(subject.straight_run.last_weights_path).state_dict
            torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
            data = path.read_bytes()
        while (damaged := _damaged(data, self.rng)) == data:
            pass
        path.write_bytes(damaged)
        with Capture() as capture:
            said = watched(capture, ["eval", path, "--dataset", "digits", "--arch", subject.config.arch,
                                     "--limit-test", "10", "--device", "cpu"])  # fmt: skip
        assert said.code in (0, 2), said
        assert form != "safetensors" or said.code == 2, "the checksum covers every byte"
        self.count(f"weights: {form} {'measured' if said.code == 0 else 'refused'}")

    def attack_swaps(self):
        first, second = self.rng.sample(self.subjects, 2)
        file, command = self.rng.choice(list(SWAPPED.items()))
        runs = self.folder / "tree" / "runs"
        shutil.copytree(first.straight_run.path, runs / "m")
        shutil.copyfile(second.straight_run.path / file, runs / "m" / file)
        if command == "eval":
            which = Path(file).stem
            arguments = [*NETWORKS[0], runs / "m", "--which", which]
        else:
            arguments = [command, runs] + (["--kind", "all"] if command == "plot" else [])
        with Capture() as capture, _working_in(runs.parent):
            said = watched(capture, arguments)
        is_same = (first.straight_run.path / file).read_bytes() == (second.straight_run.path / file).read_bytes()
        # one network alone has no confusion matrices, so its predictions are not read
        is_unread = "predictions" in file and "confusion" in said.err
        assert is_same or is_unread or file in said.err + said.out or said.code == 2, (
            file, first.config, second.config, said,
        )  # fmt: skip
        outcome = "equal in both runs" if is_same else "not read" if is_unread else "noticed"
        self.count(f"swaps: {file} {outcome}")
        _remove(runs.parent)

    def attack_starts(self):
        subject = self.rng.choice(self.subjects)
        run, is_lock_removed = RunDir(subject.new_out()), self.rng.random() < 0.5
        processes = []
        for number in range(self.rng.randint(2, 5)):
            processes.append(self.launcher.start(*subject.command(run.path)))
            self.pause(most=0.5)
            if is_lock_removed and number == 0:
                run.lock_path.unlink(missing_ok=True)
        for process in processes:
            code = process.wait()
            assert code in ((0, 1, 2) if is_lock_removed else (0, 2)), process.output()
            assert code == 0 or process.output().splitlines()[-1].startswith("error: "), process.output()
            self.count(f"starts: processes that ended with {code}")
        self.launcher.succeed(*subject.command(run.path))
        subject.compare(run)
        self.count("starts: runs completed, bit-identical" + (", lock file removed" if is_lock_removed else ""))
        shutil.rmtree(run.path)


def _files(folder):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def _is_plain(path):
    """Whether a mutation can read `path`: a pipe would block, a huge file or link to /dev/zero fill the memory."""
    return not path.is_symlink() and (path.is_dir() or (path.is_file() and path.stat().st_size < _READABLE_BYTES))


def _run_folders(tree):
    """The folders that `compare` counts or names."""
    return [path for path in tree.iterdir() if path.is_dir()]


@contextlib.contextmanager
def _working_in(folder):
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _remove(folder):
    os.system(f"rm -rf {folder}")  # noqa: S605 (our own temporary folder; it may be nested deeper than Python can go)


def _damaged(data, rng):
    """`data` with a few bytes flipped, inserted, deleted or repeated, or cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 50])):
        if not changed:
            break
        # the start of a file determines most of how it is read
        position = rng.randrange(len(changed) if rng.random() < 0.5 else min(len(changed), 2000))
        length = rng.choice([1, 1, 4, 100])
        match rng.choice(["flip", "insert", "delete", "repeat", "cut"]):
            case "flip":
                changed[position] ^= 1 << rng.randrange(8)
            case "insert":
                changed[position:position] = rng.randbytes(length)
            case "delete":
                del changed[position : position + length]
            case "repeat":
                changed[position:position] = changed[position : position + length]
            case "cut" if rng.random() < 0.2:
                del changed[position + 1 :]
    return bytes(changed)


def main() -> int:
    options = _arguments()
    print(command_line(), flush=True)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
    folder = Path(tempfile.mkdtemp(prefix="resnet-stress-"))
    stress, used = Stress(folder, options.seed), dict.fromkeys(options.only.split(","), 0.0)
    started = time.monotonic()
    attempts = Counter()
    try:
        while time.monotonic() - started < 60 * options.minutes:
            name = min(used, key=used.__getitem__)
            before = time.monotonic()
            getattr(stress, f"attack_{name}")()
            used[name] += time.monotonic() - before
            attempts[name] += 1
    except Exception:
        traceback.print_exc()
        print(f"violated after {dict(attempts)}; its files are in {folder}", file=sys.stderr)
        return 1
    finally:
        stress.launcher.close()
    shutil.rmtree(folder)
    print(f"{where()}\n")
    for name, count in [*attempts.items(), *sorted(stress.found.items())]:
        print(f"{count:7}  {name}")
    print(f"      0  violations\n\n{time.monotonic() - started:.0f} s")
    return 0


def _arguments():
    options = parser(__doc__)
    options.add_argument("--minutes", type=float, default=60)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", default=",".join(ATTACKS), help="attacks, separated by commas")
    return options.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
