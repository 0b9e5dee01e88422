"""The configuration of a run: what cannot be run is refused by name, the rest survives as plain data."""

import json
import string
import subprocess
import sys

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from resnet_cli.config import (
    Arch,
    Augment,
    CompileMode,
    DatasetName,
    Device,
    Normalization,
    Precision,
    RunConfig,
    SaveEvery,
    Shortcut,
    check_depth,
    choices,
)
from resnet_cli.errors import ConfigError

BASE = {
    "recipe": "report2025", "arch": "resnet", "depth": 20, "shortcut": "A", "dataset": "cifar10",
    "epochs": 200, "batch_size": 128, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "milestones": (80, 120),
}  # fmt: skip

# field: largest refused value below, lowest and highest accepted ones, smallest refused value above
RANGES = {
    "limit_train": (0, 1, 10**9, 10**9 + 1),
    "limit_test": (0, 1, 10**9, 10**9 + 1),
    "val_size": (-1, 0, 10**9, 10**9 + 1),
    "epochs": (0, 1, 10**6, 10**6 + 1),
    "steps": (0, 1, 10**9, 10**9 + 1),
    "batch_size": (1, 2, 10**6, 10**6 + 1),
    "lr": (-1e-9, 0.0, 1e6, 1e6 + 1),
    "momentum": (-1e-9, 0.0, 0.9999, 1.0),
    "weight_decay": (-1e-9, 0.0, 1.0, 1.001),
    "lr_decay": (0.0, 1e-6, 1.0, 1.001),
    "warmup_steps": (-1, 0, 10**9, 10**9 + 1),
    "warmup_lr": (-1e-9, 0.0, 1e6, 1e6 + 1),
    "seed": (-1, 0, 2**63 - 1, 2**63),
    "clean_train_every": (-1, 0, 10**6, 10**6 + 1),
    "gradflow_every": (-1, 0, 10**6, 10**6 + 1),
}
CHOICES = {
    "arch": Arch, "shortcut": Shortcut, "dataset": DatasetName, "augment": Augment, "normalization": Normalization,
    "precision": Precision, "compile": CompileMode, "device": Device,
}  # fmt: skip


def config(**fields):
    """A valid configuration with `fields` on top; giving `steps` drops `epochs`."""
    base = {**BASE, "epochs": None} if "steps" in fields else BASE
    return RunConfig(**{**base, **fields})


def number(name):
    """Any value that the range of field `name` admits."""
    _, low, high, _ = RANGES[name]
    if isinstance(low, float):
        return st.floats(low, high)
    return st.integers(low, high)


def literal(name):
    return st.sampled_from(choices(CHOICES[name]))


@st.composite
def configs(draw):
    """Any valid configuration."""
    arch = draw(literal("arch"))
    length = draw(st.sampled_from(["epochs", "steps"]))
    fields = {name: draw(number(name)) for name in RANGES if name not in ("epochs", "steps")}
    fields |= {name: draw(literal(name)) for name in CHOICES}
    return RunConfig(
        **fields
        | {
            "recipe": draw(st.text(max_size=8)),
            "arch": arch,
            "shortcut": "none" if arch == "plain" else draw(st.sampled_from("AB")),
            "depth": 6 * draw(st.integers(1, 200)) + 2,
            "epochs": None,
            "limit_train": draw(st.none() | number("limit_train")),
            "limit_test": draw(st.none() | number("limit_test")),
            length: draw(number(length)),
            "milestones": tuple(sorted(draw(st.sets(st.integers(1, 10**6), max_size=4)))),
            "deterministic": draw(st.booleans()),
        }
    )


class TestDepth:
    @pytest.mark.parametrize("depth", [8, 14, 20, 32, 44, 56, 110, 1202])
    def test_six_n_plus_two_layers_are_accepted(self, depth):
        assert check_depth(depth) == depth

    @pytest.mark.parametrize(
        ("depth", "nearest"),
        [
            (55, "50 or 56"),
            (57, "56 or 62"),
            (7, "8"),
            (2, "8"),
            (-5, "8"),
            (11, "8 or 14"),
            (53, "50 or 56"),
            (1201, "1196 or 1202"),
            (1203, "1202"),
            (1208, "1202"),
        ],
    )
    def test_another_depth_is_refused_with_the_nearest_valid_ones(self, depth, nearest):
        with pytest.raises(ConfigError) as caught:
            check_depth(depth)
        assert str(caught.value) == f"depth {depth} is not 6n+2 between 8 and 1202; use --depth {nearest}"

    def test_a_configuration_refuses_it_too(self):
        with pytest.raises(ConfigError, match="depth 55 is not 6n"):
            config(depth=55)


class TestRefusals:
    @pytest.mark.parametrize("name", CHOICES)
    def test_a_value_that_is_no_choice_is_refused_with_the_choices(self, name):
        with pytest.raises(ConfigError) as caught:
            config(**{name: "vgg"})
        assert str(caught.value) == f"{name} 'vgg' is not one of {', '.join(choices(CHOICES[name]))}"

    @pytest.mark.parametrize("name", RANGES)
    def test_a_number_outside_its_range_is_refused_with_both_bounds(self, name):
        below, low, high, above = RANGES[name]
        for value in (below, above):
            with pytest.raises(ConfigError) as caught:
                config(**{name: value})
            assert str(caught.value) == f"{name} must be between {low} and {high}, not {value}"

    @pytest.mark.parametrize("name", RANGES)
    def test_both_bounds_are_accepted(self, name):
        _, low, high, _ = RANGES[name]
        assert [getattr(config(**{name: value}), name) for value in (low, high)] == [low, high]

    @pytest.mark.parametrize("name", ["lr", "momentum", "weight_decay", "lr_decay", "warmup_lr"])
    def test_nan_is_outside_every_range(self, name):
        with pytest.raises(ConfigError, match=f"{name} must be between .*, not nan"):
            config(**{name: float("nan")})

    @pytest.mark.parametrize(("arch", "shortcut"), [("plain", "A"), ("plain", "B"), ("resnet", "none")])
    def test_a_shortcut_that_the_architecture_cannot_have_is_refused(self, arch, shortcut):
        with pytest.raises(ConfigError, match=f"shortcut '{shortcut}' does not fit arch '{arch}'"):
            config(arch=arch, shortcut=shortcut)

    @pytest.mark.parametrize("length", [{"epochs": None, "steps": None}, {"epochs": 5, "steps": 100}])
    def test_the_length_is_given_once(self, length):
        with pytest.raises(ConfigError, match="exactly one of epochs and steps"):
            config(**length)

    @pytest.mark.parametrize("milestones", [(0, 80), (-1,), (120, 80), (80, 80)])
    def test_milestones_that_do_not_increase_from_one_are_refused(self, milestones):
        with pytest.raises(ConfigError, match="milestones must be positive and increasing, not") as caught:
            config(milestones=milestones)
        assert str(list(milestones)) in str(caught.value)

    @pytest.mark.parametrize(
        ("values", "named"),
        [
            ({**BASE, "depth": "20"}, "depth"),
            ({**BASE, "batch_size": 12.5}, "batch_size"),
            ({**BASE, "seed": True}, "seed"),
            ({**BASE, "milestones": "80,120"}, "milestones"),
            ({**BASE, "warmup": 3}, "warmup"),
            ({name: value for name, value in BASE.items() if name != "lr"}, "lr"),
            ({**BASE, "depth": 55}, "depth 55"),
            ({**BASE, "device": "tpu"}, "tpu"),
            ([BASE], "object"),
            (None, "object"),
        ],
    )
    def test_plain_data_that_is_no_configuration_is_refused_by_what_is_wrong_with_it(self, values, named):
        with pytest.raises(ConfigError, match=named):
            RunConfig.from_dict(values)


class TestPlainData:
    @settings(max_examples=100, deadline=None)
    @given(configs())
    def test_a_configuration_survives_as_plain_data_and_as_json(self, given_config):
        values = given_config.to_dict()
        assert RunConfig.from_dict(values) == given_config
        assert RunConfig.from_dict(json.loads(json.dumps(values))) == given_config

    def test_a_configuration_cannot_be_changed(self):
        with pytest.raises(AttributeError):
            config().seed = 1

    @pytest.mark.parametrize(
        ("fields", "name"),
        [
            ({"arch": "plain", "shortcut": "none", "depth": 56}, "plain-56"),
            ({"depth": 110}, "resnet-110"),
            ({"shortcut": "B", "depth": 20}, "resnet-20-B"),
        ],
    )
    def test_a_network_is_named_by_architecture_depth_and_projection(self, fields, name):
        assert config(**fields).network == name


class TestFingerprint:
    @settings(max_examples=100, deadline=None)
    @given(one=configs(), other=configs(), name=st.sampled_from(sorted({*RANGES, *CHOICES, "recipe", "milestones"})))
    def test_fingerprints_are_equal_exactly_when_the_configurations_are(self, one, other, name):
        assume((one.arch == other.arch or name not in ("arch", "shortcut")) and name not in ("epochs", "steps"))
        mixed = RunConfig.from_dict({**one.to_dict(), name: getattr(other, name)})
        assert (mixed.fingerprint() == one.fingerprint()) == (mixed == one)
        assert (other.fingerprint() == one.fingerprint()) == (other == one)
        assert RunConfig.from_dict(one.to_dict()).fingerprint() == one.fingerprint()

    @pytest.mark.parametrize(("written", "same"), [({"lr": 1}, {"lr": 1.0}), ({"lr": -0.0}, {"lr": 0.0})])
    def test_one_number_written_in_two_ways_has_one_fingerprint(self, written, same):
        assert config(**written) == config(**same)
        assert config(**written).fingerprint() == config(**same).fingerprint()

    def test_it_is_the_same_in_every_process(self):
        code = (
            "from resnet_cli.recipes import make_config\n"
            "print(make_config('report2025', arch='resnet', depth=20).fingerprint())"
        )
        there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert there.stdout.split() == [config().fingerprint()]


class TestDiff:
    def test_it_names_each_field_with_both_values(self):
        theirs = config(depth=56, lr=0.05, milestones=(100,), limit_train=500)
        assert config().diff(theirs) == [
            "depth: 20 → 56",
            "limit_train: None → 500",
            "lr: 0.1 → 0.05",
            "milestones: (80, 120) → (100,)",
        ]

    def test_equal_configurations_have_none(self):
        assert config().diff(config()) == []


UNITS = {
    "": "epochs", "ep": "epochs", "epoch": "epochs", "epochs": "epochs", "step": "steps", "steps": "steps",
    "min": "minutes", "minute": "minutes", "minutes": "minutes",
}  # fmt: skip


class TestSaveEvery:
    @settings(deadline=None)
    @given(
        amount=st.integers(1, 10**9), suffix=st.sampled_from(sorted(UNITS)), gap=st.sampled_from(["", " "]),
        around=st.sampled_from(["", " ", "\n"]),
    )  # fmt: skip
    def test_a_number_and_a_unit_are_read(self, amount, suffix, gap, around):
        assume(suffix or not gap)
        read = SaveEvery.parse(f"{around}{amount}{gap}{suffix}{around}")
        assert read == SaveEvery(amount, UNITS[suffix])

    def test_minutes_may_have_a_fraction(self):
        assert SaveEvery.parse("0.5min") == SaveEvery(0.5, "minutes")

    @pytest.mark.parametrize(
        "text",
        ["", "0", "0.0min", "-1", "1.5epochs", "0.5steps", "10 s", "10sec", "1e3", "epoch", "min10", "1epoch2", "nan"],
    )
    def test_anything_else_is_refused_with_an_example(self, text):
        with pytest.raises(ConfigError) as caught:
            SaveEvery.parse(text)
        assert str(caught.value) == f"--save-every {text!r} is not a duration; use 1epoch, 500steps or 10min"

    @settings(deadline=None)
    @given(st.text(max_size=12) | st.text(alphabet=string.digits + ". -+eEpochstmin", max_size=12))
    @example("9" * 5000)
    @example("٣min")
    @example("1\x00")
    def test_no_text_gives_anything_but_a_duration_or_a_configuration_error(self, text):
        try:
            read = SaveEvery.parse(text)
        except ConfigError:
            return
        assert read.amount > 0
        assert read.unit in ("epochs", "steps", "minutes")
        assert read.unit == "minutes" or read.amount == int(read.amount)
