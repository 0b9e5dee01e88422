"""Commands of this tool as child processes: several at a time, stopped and restarted together."""

from resnet_cli.launch.channel import EpochEnd, Message, Position, Warned
from resnet_cli.launch.machine import gpu_ids, num_cores, slots
from resnet_cli.launch.pool import RESUME_HINT, Ending, Observer, Task, run_tasks, safe_environment

__all__ = [
    "RESUME_HINT", "Ending", "EpochEnd", "Message", "Observer", "Position", "Task", "Warned", "gpu_ids", "num_cores",
    "run_tasks", "safe_environment", "slots",
]  # fmt: skip
