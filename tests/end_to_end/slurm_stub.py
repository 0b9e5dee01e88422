"""A stand-in for SLURM: `sbatch` runs jobs at once, one task after another, and preempts and requeues them.

Installed as `sbatch`, `srun` and `scontrol`. What was submitted is in `jobs.jsonl` of the folder SLURM_STUB, one line
per call of sbatch. SLURM_STUB_RECORD=1 runs nothing. SLURM_STUB_PREEMPT names a file: as soon as it has two lines, the
task that writes it receives the signal of `#SBATCH --signal`, once.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ["SLURM_STUB"])
JOBS, STEP, REQUEUED = FOLDER / "jobs.jsonl", FOLDER / "step.pid", FOLDER / "requeued"
MAX_STARTS = 3


def sbatch(arguments):
    script = sys.stdin.read()
    # options on the command line override those in the script
    lines = re.findall(r"^#SBATCH --(.*)$", script, re.MULTILINE)
    options = dict((*argument.split("=", 1), "")[:2] for argument in (*lines, *(one[2:] for one in arguments)))
    number = str(100 + (JOBS.read_text().count("\n") if JOBS.exists() else 0))
    gres = os.environ.get("SBATCH_GRES")
    with JOBS.open("a") as file:
        file.write(json.dumps({"id": number, "options": options, "gres": gres}) + "\n")
    sys.stdout.write(f"{number}\n" if "parsable" in options else f"Submitted batch job {number}\n")
    sys.stdout.flush()
    if "SLURM_STUB_RECORD" in os.environ:
        return
    path = FOLDER / f"{number}.sh"
    path.write_text(script)
    first, _, last = options.get("array", "").partition("-")
    for task in range(int(first), int(last) + 1) if first else [None]:
        run(path, number, task, options)


def run(path, number, task, options):
    """Run one task, again as long as it is requeued."""
    environment = {**os.environ, "SLURM_JOB_ID": number, "SLURM_CPUS_PER_TASK": "1"}
    output = options["output"]
    if task is not None:
        environment |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": str(task)}
        output = output.replace("%A", number).replace("%a", str(task))
    for _ in range(MAX_STARTS):
        for left in (STEP, REQUEUED):
            left.unlink(missing_ok=True)
        with open(output, "ab") as log:  # --open-mode=append
            batch = subprocess.Popen(["sh", path], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            preempt(batch, options.get("signal", ""))
            batch.wait()
        if not REQUEUED.exists():
            return
        assert REQUEUED.read_text() == f"{number}_{task}"
        assert "requeue" in options


def preempt(batch, option):
    """Send the signal of `--signal`, as if the time limit were near, once the watched file has two lines."""
    watched, done = Path(os.environ.get("SLURM_STUB_PREEMPT", os.devnull)), FOLDER / "preempted"
    while batch.poll() is None and not done.exists():
        if watched.is_file() and watched.read_bytes().count(b"\n") > 1:
            to_batch_shell, name = option.startswith("B:"), option.removeprefix("B:").partition("@")[0]
            os.kill(batch.pid if to_batch_shell else int(STEP.read_text()), signal.Signals[f"SIG{name}"])
            done.touch()
        time.sleep(0.02)


def srun(arguments):
    while arguments[0].startswith("--"):
        arguments.pop(0)
    STEP.write_text(str(os.getpid()))
    os.execvp(arguments[0], arguments)  # noqa: S606 - the step has to receive the signals itself


def scontrol(arguments):
    command, task = arguments
    assert command == "requeue"
    REQUEUED.write_text(task)


if __name__ == "__main__":
    {"sbatch": sbatch, "srun": srun, "scontrol": scontrol}[sys.argv[1]](sys.argv[2:])
