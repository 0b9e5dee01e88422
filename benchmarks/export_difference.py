"""Compare exported networks with the original: largest difference of the logits on 256 test images, time and size.

Run it in an environment with the extra `onnx`.

    python benchmarks/export_difference.py RUN…
"""

import tempfile
import time
from pathlib import Path

from where import command_line, parser, where

from resnet_cli.weights.export import Target, export

TARGETS: tuple[Target, ...] = ("torch-export", "onnx")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="complete runs with their weights")
    args = options.parse_args()
    print(command_line())
    import onnx
    import onnxruntime

    for run in args.runs:
        for target in TARGETS:
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                exported = export(run, target, Path(folder) / "network")
                seconds, size = time.perf_counter() - started, exported.path.stat().st_size
            check = exported.check
            assert check is not None
            print(
                f"{exported.network:<12} {target:<12} largest difference {check.max_difference:.1e}, logits up to "
                f"{check.largest_logit:5.1f}, same prediction on {check.num_same_predictions} of {check.num_images} "
                f"images; {size / 1e6:.1f} MB, {seconds:.1f} s"
            )
    print(f"\n{where()}, onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}")


if __name__ == "__main__":
    main()
