"""Shared parts of the benchmark scripts: their options, and the first and the last line of their output."""

import argparse
import datetime
import os
import platform
import sys
from pathlib import Path


def parser(description: str | None) -> argparse.ArgumentParser:
    """Parser of a script's options; `description` is the script's docstring, printed as it is by `--help`."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def command_line() -> str:
    """Command that started this script, as typed in the root of the project."""
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def where() -> str:
    """Date, CPU, threads and versions. Imports PyTorch and pandas, so call it after the measurement."""
    import pandas as pd
    import torch

    from resnet_cli.device import _cpu_name

    return (
        f"{datetime.date.today()}, {_cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"python {platform.python_version()}, torch {torch.__version__}, pandas {pd.__version__}, {platform.platform()}"
    )
