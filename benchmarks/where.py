"""What was run, when and on what: the first and the last line that a benchmark prints."""

import datetime
import os
import platform
import sys
from pathlib import Path


def command_line() -> str:
    """How this script was called, from the project's folder."""
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def where() -> str:
    """Date, CPU, threads and versions; call it after what is measured, for it loads PyTorch and pandas."""
    import pandas as pd
    import torch

    from resnet_cli.device import _cpu_name

    return (
        f"{datetime.date.today()}, {_cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"python {platform.python_version()}, torch {torch.__version__}, pandas {pd.__version__}, {platform.platform()}"
    )
