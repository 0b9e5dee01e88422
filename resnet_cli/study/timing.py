"""Time and memory of runs, from two training steps of each: a program that `resnet_cli.study.estimate` starts.

It reads configurations as JSON from stdin and writes estimates as JSON to stdout. The process of `resnet reproduce`
itself must not load PyTorch.
"""

import sys

import msgspec

from resnet_cli.config import RunConfig
from resnet_cli.launch.channel import connect


def _main() -> None:
    connect()  # before PyTorch is loaded, which takes seconds
    from resnet_cli.bench import estimate, measure, random_dataset, setup_for

    estimates = []
    for config in msgspec.json.decode(sys.stdin.buffer.read(), type=list[RunConfig]):
        dataset = random_dataset(config)
        setup = setup_for(config, dataset)
        cost = estimate(config, dataset, setup, measure(config, dataset, setup, num_steps=2))
        estimates.append({"seconds": cost.total_seconds, "memory_bytes": cost.peak_memory_bytes})
    sys.stdout.buffer.write(msgspec.json.encode(estimates))


if __name__ == "__main__":
    _main()
