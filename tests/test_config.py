"""Configuration of a run: validation, plain data, fingerprints and checkpoint intervals."""

import json
import math
import re
import string
from typing import Literal, get_args, get_origin

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from strategies import INDEPENDENT, values_of

from resnet_cli.config import FIELDS, RunConfig, SaveEvery, check_depth
from resnet_cli.errors import ConfigError
from resnet_cli.recipes import make_config

BASE = {
    "recipe": "report2025", "arch": "resnet", "depth": 20, "shortcut": "A", "dataset": "cifar10",
    "epochs": 200, "batch_size": 128, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "milestones": (80, 120),
}  # fmt: skip

# field: a value below the bounds, both bounds, a value above them
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
CHOICES = {name: get_args(field.kind) for name, field in FIELDS.items() if get_origin(field.kind) is Literal}


def config(**fields):
    """A valid configuration with `fields` on top; giving `steps` drops `epochs`."""
    base = {**BASE, "epochs": None} if "steps" in fields else BASE
    return RunConfig(**{**base, **fields})


@st.composite
def configs(draw):
    """Any valid configuration."""
    arch, length = draw(values_of("arch")), draw(st.sampled_from(["epochs", "steps"]))
    return RunConfig(
        **draw(st.fixed_dictionaries(INDEPENDENT)),
        **{"epochs": None, length: draw(values_of(length, with_none=False))},
        recipe=draw(st.text(max_size=8)),
        arch=arch,
        shortcut="none" if arch == "plain" else draw(st.sampled_from("AB")),
        depth=6 * draw(st.integers(1, 200)) + 2,
        milestones=tuple(sorted(draw(st.sets(st.integers(1, 10**6), max_size=4)))),
    )


@pytest.mark.parametrize("depth", [8, 14, 20, 32, 44, 56, 110, 1202])
def test_depths_of_6n_plus_2_layers_are_accepted(depth):
    assert check_depth(depth) == depth


@pytest.mark.parametrize(
    ("depth", "nearest"),
    [
        (55, "50 or 56"), (57, "56 or 62"), (7, "8"), (2, "8"), (-5, "8"), (11, "8 or 14"), (1201, "1196 or 1202"),
        (1203, "1202"), (1208, "1202"),
    ],
)  # fmt: skip
def test_the_error_for_an_invalid_depth_suggests_the_nearest_valid_ones(depth, nearest):
    for build in (check_depth, lambda depth: config(depth=depth)):
        with pytest.raises(ConfigError) as caught:
            build(depth)
        assert str(caught.value) == f"depth {depth} is not 6n+2 between 8 and 1202; use depth {nearest}"


def rejection(**fields):
    """The error message for a configuration with `fields`, the same from the constructor and from plain data."""
    messages = set()
    for build in (lambda: config(**fields), lambda: RunConfig.from_dict({**BASE, **fields})):
        with pytest.raises(ConfigError) as caught:
            build()
        messages.add(str(caught.value))
    (message,) = messages
    return message


class TestInvalidValues:
    @pytest.mark.parametrize("name", CHOICES)
    def test_the_error_for_an_unknown_choice_lists_the_valid_ones(self, name):
        assert rejection(**{name: "vgg"}) == f"{name} must be one of {', '.join(CHOICES[name])} (got 'vgg')"

    @pytest.mark.parametrize("name", RANGES)
    def test_the_error_for_a_number_outside_its_bounds_shows_both_bounds(self, name):
        below, low, high, above = RANGES[name]
        for value in (below, above, *([math.nan] if FIELDS[name].kind is float else [])):
            message = rejection(**{name: value})
            assert message.endswith(f" (got {value!r})")
            shown = re.fullmatch(rf"{name} must be between (\S+) and (\S+) .*", message)
            assert [type(low)(bound) for bound in shown.groups()] == [low, high]

    def test_bounds_are_written_as_a_user_would_type_them(self):
        assert rejection(lr=-1) == "lr must be between 0 and 1e6 (got -1)"
        assert rejection(lr_decay=0.0) == "lr_decay must be between 1e-6 and 1 (got 0.0)"
        assert rejection(batch_size=1) == "batch_size must be between 2 and 1000000 (got 1)"

    @pytest.mark.parametrize("name", RANGES)
    def test_a_number_may_equal_either_of_its_bounds(self, name):
        _, low, high, _ = RANGES[name]
        assert [getattr(config(**{name: value}), name) for value in (low, high)] == [low, high]

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"depth": "20"}, "depth must be a whole number (got '20')"),
            ({"batch_size": 12.5}, "batch_size must be a whole number (got 12.5)"),
            ({"seed": True}, "seed must be a whole number (got True)"),
            ({"lr": "0.1"}, "lr must be a number (got '0.1')"),
            ({"milestones": "80,120"}, "milestones must be a list of whole numbers (got '80,120')"),
            ({"milestones": (80.5,)}, "milestones must be a list of whole numbers (got (80.5,))"),
            ({"milestones": (True,)}, "milestones must be a list of whole numbers (got (True,))"),
            ({"deterministic": 1}, "deterministic must be true or false (got 1)"),
            ({"recipe": None}, "recipe must be text (got None)"),
        ],
    )
    def test_the_error_for_a_value_of_another_type_names_the_expected_type(self, fields, message):
        assert rejection(**fields) == message

    @pytest.mark.parametrize(("arch", "shortcut"), [("plain", "A"), ("plain", "B"), ("resnet", "none")])
    def test_a_shortcut_that_the_architecture_cannot_have_is_rejected(self, arch, shortcut):
        assert f"shortcut '{shortcut}' does not fit arch '{arch}'" in rejection(arch=arch, shortcut=shortcut)

    @pytest.mark.parametrize("length", [{"epochs": None, "steps": None}, {"epochs": 5, "steps": 100}])
    def test_the_length_of_a_run_is_given_either_in_epochs_or_in_steps(self, length):
        with pytest.raises(ConfigError, match="epochs and steps are mutually exclusive"):
            config(**length)

    @pytest.mark.parametrize("milestones", [(0, 80), (-1,), (120, 80), (80, 80)])
    def test_milestones_that_do_not_increase_from_one_are_rejected(self, milestones):
        shown = ",".join(map(str, milestones))
        assert rejection(milestones=milestones) == f"milestones must be positive and increasing (got {shown})"

    @pytest.mark.parametrize(
        ("values", "named"),
        [
            ({**BASE, "warmup": 3}, "warmup"),
            ({name: value for name, value in BASE.items() if name != "lr"}, "lr"),
            ({**BASE, "\udcff": 1}, "utf-8"),
            ([BASE], "must be an object"),
            (None, "must be an object"),
        ],
    )
    def test_a_configuration_with_unknown_or_missing_fields_is_rejected(self, values, named):
        with pytest.raises(ConfigError, match=named):
            RunConfig.from_dict(values)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"lr": -1}, "--lr must be between 0 and 1e6 (got -1)"),
            ({"clean_train_every": -1}, "--clean-train-every must be between 0 and 1000000 (got -1)"),
            ({"steps": 5, "epochs": 5}, "--epochs and --steps are mutually exclusive: give one of them"),
            (
                {"dataset": "dataset"},
                "--dataset must be one of cifar10, cifar100, imagefolder, digits, arrays (got 'dataset')",
            ),
        ],
    )
    def test_configuration_errors_on_the_command_line_name_the_option(self, fields, message):
        with pytest.raises(ConfigError) as caught:
            config(**fields)
        assert caught.value.as_options() == message


class TestPlainData:
    @settings(max_examples=100, deadline=None)
    @given(configs())
    def test_a_configuration_is_unchanged_after_a_round_trip_as_plain_data_and_as_json(self, given_config):
        values = given_config.to_dict()
        assert RunConfig.from_dict(values) == given_config
        assert RunConfig.from_dict(json.loads(json.dumps(values))) == given_config

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


# Fields that can change alone: arch and shortcut, or epochs and steps, only change together.
SINGLE_FIELDS = sorted({*RANGES, *CHOICES, "recipe", "milestones"} - {"arch", "shortcut", "epochs", "steps"})


class TestFingerprint:
    @settings(max_examples=100, deadline=None)
    @given(one=configs(), other=configs(), name=st.sampled_from(SINGLE_FIELDS))
    def test_fingerprints_are_equal_exactly_when_the_configurations_are(self, one, other, name):
        mixed = RunConfig.from_dict({**one.to_dict(), name: getattr(other, name)})
        assert (mixed.fingerprint() == one.fingerprint()) == (mixed == one)
        assert (other.fingerprint() == one.fingerprint()) == (other == one)
        assert RunConfig.from_dict(one.to_dict()).fingerprint() == one.fingerprint()

    @pytest.mark.parametrize(
        ("fields", "digest"),
        [
            ({"arch": "resnet", "depth": 20}, "ad9a43039744b1d91d596accda2801e063951a16bbb34989a9505d78ac14a0c5"),
            (
                {"recipe": "he2015", "arch": "plain", "depth": 110, "seed": 7, "lr": 1, "precision": "bf16"},
                "37f55fb1ca9cae695ed16da9ee2fd54755cb4daf70c6ee8b595b15514b93946f",
            ),
        ],
    )
    def test_recorded_fingerprints_stay_valid(self, fields, digest):
        assert make_config(**fields).fingerprint() == digest

    @pytest.mark.parametrize(("written", "same"), [({"lr": 1}, {"lr": 1.0}), ({"lr": -0.0}, {"lr": 0.0})])
    def test_equal_numbers_of_different_types_have_one_fingerprint(self, written, same):
        assert config(**written) == config(**same)
        assert config(**written).fingerprint() == config(**same).fingerprint()


def test_the_difference_of_two_configurations_shows_each_field_with_both_values():
    theirs = config(depth=56, lr=0.05, milestones=(100,), limit_train=500)
    assert config().diff(theirs) == [
        "depth: 20 → 56", "limit_train: None → 500", "lr: 0.1 → 0.05", "milestones: (80, 120) → (100,)",
    ]  # fmt: skip
    assert config().diff(config()) == []


UNITS = {
    "": "epochs", "ep": "epochs", "epoch": "epochs", "epochs": "epochs", "step": "steps", "steps": "steps",
    "min": "minutes", "minute": "minutes", "minutes": "minutes",
}  # fmt: skip


class TestCheckpointInterval:
    @settings(deadline=None)
    @given(
        amount=st.integers(1, 10**9), suffix=st.sampled_from(sorted(UNITS)), gap=st.sampled_from(["", " "]),
        around=st.sampled_from(["", " ", "\n"]),
    )  # fmt: skip
    def test_a_checkpoint_interval_is_parsed_from_a_number_and_a_unit(self, amount, suffix, gap, around):
        assume(suffix or not gap)
        read = SaveEvery.parse(f"{around}{amount}{gap}{suffix}{around}")
        assert read == SaveEvery(amount, UNITS[suffix])
        assert SaveEvery.parse("0.5min") == SaveEvery(0.5, "minutes")

    @pytest.mark.parametrize(
        "text",
        ["", "0", "0.0min", "-1", "1.5epochs", "0.5steps", "10 s", "10sec", "1e3", "epoch", "min10", "1epoch2", "nan"],
    )
    def test_the_error_for_an_invalid_checkpoint_interval_gives_examples(self, text):
        with pytest.raises(ConfigError) as caught:
            SaveEvery.parse(text)
        assert str(caught.value) == f"save_every {text!r} is not a valid interval; use 1epoch, 500steps or 10min"

    @settings(deadline=None)
    @given(st.text(max_size=12) | st.text(alphabet=string.digits + ". -+eEpochstmin", max_size=12))
    @example("9" * 5000)
    @example("٣min")
    @example("1\x00")
    def test_any_text_gives_a_checkpoint_interval_or_a_configuration_error(self, text):
        try:
            read = SaveEvery.parse(text)
        except ConfigError:
            return
        assert read.amount > 0
        assert read.unit in ("epochs", "steps", "minutes")
        assert read.unit == "minutes" or read.amount == int(read.amount)
