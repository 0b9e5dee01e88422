"""Prints how many hostile things the tests in this folder try: `python tests/hostile/counts.py`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    tests = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(tests.parent), str(tests), str(tests / "hostile")]

import test_bad_options
import test_hostile_files
import test_run_trees
import test_trained_runs
from hostile_pickles import bombs, executing, unusual


def counts() -> dict[str, int]:
    """What the tests try, and how often."""
    options = [option.values for option in test_bad_options.OPTIONS]
    return {
        "pickles that run a command": len(executing(test_hostile_files.CANARY)),
        "pickles that hang, crash or make objects": len(unusual()) + len(bombs()),
        "flipped bits": test_hostile_files.NUM_FLIPS,
        "truncations": test_hostile_files.NUM_CUTS,
        "mutations of run directories, `compare` and `plot`": len(test_run_trees.MUTATIONS),
        "mutations of run directories, `eval` and `gradflow`": len(test_trained_runs.MUTATIONS),
        "mutations of weight files, `eval` and `gradflow`": len(test_trained_runs.WEIGHTS),
        "commands": len(test_bad_options.COMMANDS),
        "options and arguments": len(options),
        "chosen values of them": sum(len(test_bad_options.chosen_values(option)) for _, option in options),
        "generated values of them": test_bad_options.NUM_GENERATED * len(options),
    }


if __name__ == "__main__":
    for name, number in counts().items():
        sys.stdout.write(f"{number:6}  {name}\n")
