"""Notes on runs of a group with different machines, versions or numerical settings."""

import msgspec
import pytest

from resnet_cli.analysis.claims import claims_document, claims_report
from resnet_cli.analysis.frames import load_study
from resnet_cli.analysis.tables import study_document
from resnet_cli.rundir import Attempt


@pytest.mark.parametrize(
    ("environment", "note"),
    [
        ({"cpu_capability": "AVX2"}, "CPU instruction set differs between runs: AVX2 (1 run), not recorded (1 run)"),
        (
            {"deterministic": True},
            "use of deterministic kernels differs between runs: not recorded (1 run), on (1 run)",
        ),
        ({"cuda": "13.2"}, "CUDA version differs between runs: 13.2 (1 run), not recorded (1 run)"),
        ({"cudnn": "9"}, "cuDNN version differs between runs: 9 (1 run), not recorded (1 run)"),
        ({"python": "3.14.0"}, "python version differs between runs: 3.12.3 (1 run), 3.14.0 (1 run)"),
        ({"threads": 1}, "number of threads differs between runs: 1 (1 run), 2 (1 run)"),
        ({"platform": "another kernel", "num_cpus": 64}, None),
    ],
)
def test_only_differences_in_settings_that_may_change_results_are_noted(make_run, tmp_path, environment, note):
    make_run(tmp_path / "a", seed=0)
    make_run(tmp_path / "b", seed=1, environment=environment)
    expected = [f"CIFAR-10, report2025: {note}"] if note else []
    assert study_document(load_study([tmp_path]))["notes"] == expected


def test_a_setting_that_separates_the_networks_could_explain_their_difference(make_run, tmp_path):
    for arch, threads in (("plain", 1), ("resnet", 2)):
        for seed in (0, 1):
            make_run(tmp_path / f"{arch}-{seed}", arch=arch, seed=seed, environment={"threads": threads})
    note = "number of threads differs between runs: 1 (2 runs), 2 (2 runs)"
    aligned = f"{note}; it could explain differences between networks"
    study = load_study([tmp_path], with_metrics=True)
    assert study_document(study)["notes"] == [f"CIFAR-10, report2025: {aligned}"]
    claims = claims_document(study)
    assert all(row["provenance"] == [aligned] for row in claims["claims"])
    assert aligned in claims_report(claims).tables[0].footnotes
    make_run(tmp_path / "resnet-2", arch="resnet", seed=2, environment={"threads": 1})
    (row,) = study_document(load_study([tmp_path]))["notes"]
    assert row.endswith("1 (3 runs), 2 (2 runs)")


def resume_with(run, *, torch="2.11.0", version="0.1.0"):
    record = run.read_record()
    began = {"started_at": record.created_at, "argv": (), "step": 0, "decisions": record.decisions}
    first = Attempt(tool_version=record.tool_version, environment=record.environment, **began)
    run.append_attempt(first)
    run.append_attempt(
        msgspec.structs.replace(first, step=9, tool_version=version, environment={**record.environment, "torch": torch})
    )


def test_a_run_resumed_with_another_version_is_noted(make_run, tmp_path):
    make_run(tmp_path / "a", seed=0)
    resumed = make_run(tmp_path / "b", seed=1)
    resume_with(resumed, version="0.2.0")
    assert study_document(load_study([tmp_path]))["notes"] == [
        "CIFAR-10, report2025: torch version differs between runs: 2.10.0 (1 run), 2.10.0 → 2.11.0 (1 run)",
        "CIFAR-10, report2025: version of this tool differs between runs: 0.1.0 (1 run), 0.1.0 → 0.2.0 (1 run)",
    ]
    assert study_document(load_study([resumed.path]))["notes"] == [
        "CIFAR-10, report2025: torch version changed: 2.10.0 → 2.11.0 (1 run)",
        "CIFAR-10, report2025: version of this tool changed: 0.1.0 → 0.2.0 (1 run)",
    ]


def test_a_run_with_an_unreadable_list_of_attempts_is_included_with_a_note(make_run, tmp_path):
    run = make_run(tmp_path / "a")
    run.attempts_path.write_text("nothing\n")
    document = study_document(load_study([tmp_path]))
    assert document["networks"][0]["n"] == 1
    (note,) = document["notes"]
    assert f"{run.attempts_path} cannot be read: " in note
    assert f"it is unknown whether {run.path} was resumed with other settings" in note
