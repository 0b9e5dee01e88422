"""Steps of the stages `tests` and `speed`, the most valuable first."""

from typing import NamedTuple

TINY_SECONDS = 5.0  # expected of every step of a rehearsal


class Step(NamedTuple):
    """One process of a slot."""

    name: str
    """Stage, then what it does: `speed/steps-20`."""
    seconds: float
    """Expected time on an H100 or H200; replaced by the measured time once there is one. Estimates, not measured."""
    command: tuple[str, ...]
    """Script and arguments, relative to the root of the project."""

    @property
    def stage(self) -> str:
        """`setup`, `tests` or `speed`."""
        return self.name.partition("/")[0]


GRAPH_TESTS = "tests/cuda-graphs"
"""Name of the step that decides whether runs of the study use CUDA graphs."""
_MEASURE = "benchmarks/gpu/measure.py"
_RUN_TESTS = "benchmarks/gpu/run_tests.py"
# files with tests that choose the device automatically, or that compare the CPU with it
_OTHER_TESTS = (
    "tests/engine", "tests/probes", "tests/session/test_session.py", "tests/test_device.py", "tests/test_bench.py",
    "tests/test_checkpoint.py", "tests/measure", "tests/weights",
)  # fmt: skip


def steps_of(device: str, *, tiny: bool) -> list[Step]:
    """The step that examines the environment, then those of the stages `tests` and `speed`, in order."""
    on = ("--device", device, *(["--tiny"] if tiny else []))
    small, large, deepest = ("8", "14", "20") if tiny else ("20", "56", "110")

    def measure(name: str, seconds: float, what: str, *arguments: str) -> Step:
        return Step(f"speed/{name}", seconds, (_MEASURE, what, *arguments, *on))

    def steps(depth: str, seconds: float, *variants: str) -> Step:
        name = f"steps-{depth}-{'-'.join(variants)}"
        return measure(name, seconds, "steps", "--depth", depth, "--variants", *variants)

    def tests(name: str, seconds: float, limit: int, *arguments: str) -> Step:
        return Step(name, seconds, (_RUN_TESTS, str(limit), *arguments))

    other_tests = ("tests/test_device.py",) if tiny else _OTHER_TESTS
    cuda_tests = ("tests/test_cuda.py", "-k")
    found = [
        Step("setup/environment", 60, (_MEASURE, "environment", *on)),
        # after an error or a failed capture a process may be unusable: what was never tried gets one of its own
        tests("tests/cuda-eager", 60, 60, *cuda_tests, "not cuda_graph and not compiled"),
        tests(GRAPH_TESTS, 60, 60, *cuda_tests, "cuda_graph and not compiled"),
        steps(small, 25, "eager", "textbook"),
        steps(small, 25, "graph"),
        steps(large, 35, "eager", "textbook"),
        steps(large, 30, "graph"),
        measure("epochs", 60, "epochs"),
        measure(f"textbook-epoch-{small}", 35, "textbook-epochs", "--depth", small),
        measure("shared-processes", 40, "shared", "--how", "processes"),
        measure("shared-pair", 30, "shared", "--how", "processes", "--pair"),
        measure("shared-streams", 35, "shared", "--how", "streams"),
        measure(f"profile-{small}", 20, "profile", "--depth", small),
        measure(f"profile-{large}", 25, "profile", "--depth", large),
        measure(f"traffic-{small}", 15, "traffic", "--depth", small),
        measure(f"traffic-{large}", 15, "traffic", "--depth", large),
        tests("tests/cuda-compiled", 150, 150, *cuda_tests, "compiled"),
        steps(small, 90, "compiled"),
        measure(f"textbook-epoch-{large}", 45, "textbook-epochs", "--depth", large),
        steps(large, 200, "compiled"),
        steps(deepest, 45, "eager", "textbook"),
        steps(deepest, 45, "graph"),
        measure(f"traffic-{deepest}", 20, "traffic", "--depth", deepest),
        measure(f"profile-{deepest}", 35, "profile", "--depth", deepest),
        tests("tests/others", 240, 150, *other_tests),
        steps(deepest, 400, "compiled"),
    ]
    return [step._replace(seconds=TINY_SECONDS) for step in found] if tiny else found
