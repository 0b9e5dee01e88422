"""Recipes: the published values, overrides, labels, and the command that repeats a configuration."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_cli.cli import train
from resnet_cli.cli.app import run
from resnet_cli.config import Augment, CompileMode, DatasetName, Device, Normalization, Precision, RunConfig, choices
from resnet_cli.errors import ConfigError
from resnet_cli.recipes import RECIPES, make_config, recipe_label, recipe_values, train_arguments


def make(recipe="report2025", arch="plain", depth=20, **overrides):
    return make_config(recipe, arch=arch, depth=depth, **overrides)


def parsed(arguments):
    """The configuration and options that `resnet` reads from `arguments`, with nothing trained."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "_run", lambda config, out, options, **_: seen.append((config, options)))
        assert run(arguments) == 0
    return seen[0]


MILESTONES = st.sampled_from([(), (80, 120), (32_000, 48_000), (3, 5)])
LENGTHS = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"epochs": st.integers(1, 500), "milestones": MILESTONES}),
    st.fixed_dictionaries({"steps": st.integers(1, 10**5), "milestones": MILESTONES}),
)
OVERRIDES = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 2**63 - 1),
        "dataset": st.sampled_from(choices(DatasetName)),
        "limit_train": st.none() | st.integers(1, 10**6),
        "limit_test": st.none() | st.integers(1, 10**6),
        "val_size": st.integers(0, 10**6),
        "augment": st.sampled_from(choices(Augment)),
        "normalization": st.sampled_from(choices(Normalization)),
        "batch_size": st.integers(2, 10**6),
        "lr": st.floats(0.0, 1e6),
        "momentum": st.floats(0.0, 0.9999),
        "weight_decay": st.floats(0.0, 1.0),
        "lr_decay": st.floats(1e-6, 1.0),
        "warmup_steps": st.integers(0, 10**6),
        "warmup_lr": st.floats(0.0, 1e6),
        "precision": st.sampled_from(choices(Precision)),
        "compile": st.sampled_from(choices(CompileMode)),
        "device": st.sampled_from(choices(Device)),
        "deterministic": st.booleans(),
        "clean_train_every": st.integers(0, 10**6),
        "gradflow_every": st.integers(0, 10**6),
    },
)
NETWORKS = st.sampled_from(
    [("plain", None), ("resnet", None), ("resnet", "B"), ("plain", "none"), ("resnet", "A")]
)  # fmt: skip


@st.composite
def configs(draw):
    """Any configuration that a recipe and overrides of it can give."""
    arch, shortcut = draw(NETWORKS)
    fields = {**draw(OVERRIDES), **draw(LENGTHS), **({"shortcut": shortcut} if shortcut else {})}
    return make(draw(st.sampled_from(sorted(RECIPES))), arch, draw(st.sampled_from([8, 20, 56, 110, 1202])), **fields)


class TestPublishedValues:
    def test_report2025_is_the_report_s_recipe(self):
        # the report, section 2.2
        config = make("report2025", "resnet", 56)
        assert (config.dataset, config.augment, config.normalization, config.val_size) == (
            "cifar10", "crop-flip", "channel", 0,
        )  # fmt: skip
        assert (config.lr, config.momentum, config.weight_decay, config.batch_size) == (0.1, 0.9, 1e-4, 128)
        assert (config.epochs, config.steps, config.milestones, config.lr_decay) == (200, None, (80, 120), 0.1)

    def test_he2015_is_the_paper_s_recipe(self):
        # arXiv 1512.03385, section 4.2
        config = make("he2015", "resnet", 56)
        assert (config.dataset, config.augment, config.normalization, config.val_size) == (
            "cifar10", "crop-flip", "pixel-mean", 5_000,
        )  # fmt: skip
        assert (config.lr, config.momentum, config.weight_decay, config.batch_size) == (0.1, 0.9, 1e-4, 128)
        assert (config.epochs, config.steps, config.milestones, config.lr_decay) == (
            None, 64_000, (32_000, 48_000), 0.1,
        )  # fmt: skip

    def test_demo_needs_no_download_and_measures_clean_training_error_every_epoch(self):
        config = make("demo")
        assert (config.dataset, config.augment, config.epochs, config.lr, config.clean_train_every) == (
            "digits", "none", 10, 0.03, 1,
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("depth", "warmup"), [(56, (0, 0.01)), (104, (0, 0.01)), (110, (400, 0.01)), (1202, (400, 0.01))]
    )
    def test_he2015_warms_up_from_110_layers_on(self, depth, warmup):
        config = make("he2015", "resnet", depth)
        assert (config.warmup_steps, config.warmup_lr) == warmup

    @pytest.mark.parametrize("recipe", ["report2025", "demo"])
    def test_no_other_recipe_warms_up(self, recipe):
        assert make(recipe, "resnet", 110).warmup_steps == 0

    @pytest.mark.parametrize("name", RECIPES)
    def test_every_recipe_has_its_own_name_a_summary_and_a_source(self, name):
        assert RECIPES[name].name == make(name).recipe == name
        assert RECIPES[name].summary
        assert RECIPES[name].source


class TestMakingConfigurations:
    @pytest.mark.parametrize(("arch", "shortcut"), [("plain", "none"), ("resnet", "A")])
    def test_the_shortcut_follows_the_architecture(self, arch, shortcut):
        assert make(arch=arch).shortcut == shortcut

    def test_an_override_replaces_the_recipe_s_value_and_no_other(self):
        changed = make(lr=0.05, shortcut="B", arch="resnet")
        assert make(arch="resnet").diff(changed) == ["shortcut: A → B", "lr: 0.1 → 0.05"]

    @pytest.mark.parametrize(
        ("recipe", "length", "replaced"), [("he2015", "epochs", "steps"), ("report2025", "steps", "epochs")]
    )
    def test_a_length_in_the_other_unit_needs_milestones_in_it(self, recipe, length, replaced):
        with pytest.raises(ConfigError) as caught:
            make(recipe, **{length: 50})
        assert str(caught.value) == (
            f"recipe {recipe} counts its milestones in {replaced}, but {length} was given; "
            f"give --milestones in {length} too"
        )
        config = make(recipe, **{length: 50}, milestones=(20, 40))
        assert (getattr(config, length), getattr(config, replaced), config.milestones) == (50, None, (20, 40))

    def test_a_recipe_without_milestones_takes_a_length_in_either_unit(self):
        config = make("demo", steps=30)
        assert (config.epochs, config.steps, config.milestones) == (None, 30, ())

    def test_a_length_in_the_recipe_s_own_unit_keeps_its_milestones(self):
        config = make("he2015", steps=100)
        assert (config.steps, config.milestones) == (100, (32_000, 48_000))

    def test_an_unknown_recipe_is_refused_with_the_known_ones(self):
        with pytest.raises(ConfigError) as caught:
            recipe_values("he2016", depth=20)
        assert str(caught.value) == "recipe 'he2016' is not known; use --recipe report2025 or he2015 or demo"

    def test_unknown_fields_are_refused_by_name(self):
        with pytest.raises(ConfigError, match="unknown configuration field learning_rate, nesterov"):
            make(nesterov=True, learning_rate=0.1)

    def test_a_depth_that_is_not_6n_plus_2_is_refused_before_the_recipe_is_looked_up(self):
        with pytest.raises(ConfigError, match="use --depth 50 or 56"):
            make("no such recipe", depth=55)

    def test_recipes_are_not_changed_by_configurations_made_from_them(self):
        before = recipe_values("he2015", depth=110)
        make("he2015", depth=110, epochs=5, milestones=(3,), lr=1.0)
        assert recipe_values("he2015", depth=110) == before


class TestLabels:
    @pytest.mark.parametrize(
        ("config", "label"),
        [
            (make(), "report2025"),
            (make(epochs=5, lr=0.05), "report2025 epochs=5 lr=0.05"),
            (make(milestones=(5, 8)), "report2025 milestones=5,8"),
            (make(steps=90, milestones=(30,)), "report2025 steps=90 milestones=30"),
            (make("he2015", depth=110), "he2015"),
            (make("he2015", depth=110, warmup_steps=0), "he2015 warmup_steps=0"),
            (make(precision="bf16"), "report2025 precision=bf16"),
            (make(limit_train=500, val_size=100), "report2025 limit_train=500 val_size=100"),
        ],
    )
    def test_a_label_is_the_recipe_and_what_overrides_it(self, config, label):
        assert recipe_label(config) == label

    def test_runs_of_one_recipe_share_a_label_whatever_their_network_seed_machine_and_measurements(self):
        ours = make("he2015")
        theirs = make(
            "he2015", "resnet", 110, shortcut="B", seed=3, device="cpu", compile="on", deterministic=True,
            clean_train_every=1, gradflow_every=5,
        )  # fmt: skip
        assert recipe_label(ours) == recipe_label(theirs) == "he2015"

    def test_a_recipe_of_another_version_is_labelled_by_name_and_values(self):
        def label(**fields):
            return recipe_label(RunConfig.from_dict({**make(**fields).to_dict(), "recipe": "he2026"}))

        assert label().startswith("he2026 (")
        assert label(seed=4, arch="resnet", depth=56, device="cpu") == label()
        assert label(lr=0.2) != label()


class TestRepeating:
    def test_only_what_differs_from_the_recipe_is_written(self):
        assert train_arguments(make()) == ["train", "--recipe", "report2025", "--arch", "plain", "--depth", "20"]
        assert train_arguments(make(seed=3, milestones=(), deterministic=True, limit_train=9), data_dir="a b")[7:] == [
            "--limit-train", "9", "--milestones", "none", "--seed", "3", "--deterministic", "--data-dir", "a b",
        ]  # fmt: skip

    @settings(max_examples=150, deadline=None)
    @given(configs())
    def test_the_command_line_reads_the_same_configuration_back(self, config):
        assert parsed(train_arguments(config))[0] == config

    @pytest.mark.parametrize(
        "config",
        [
            make("report2025", steps=200, milestones=(80, 120)),
            make("he2015", epochs=64_000, milestones=(32_000, 48_000)),
        ],
    )
    def test_milestones_are_written_out_when_they_count_in_the_other_unit(self, config):
        assert parsed(train_arguments(config))[0] == config

    def test_the_folder_of_the_data_is_passed_on(self):
        assert parsed(train_arguments(make(), data_dir="my data"))[1].data_dir == "my data"

    def test_a_recipe_of_another_version_is_written_out_in_full(self):
        arguments = train_arguments(RunConfig.from_dict({**make().to_dict(), "recipe": "he2026"}))
        written = dict(zip(arguments[1::2], arguments[2::2], strict=False))
        assert written["--recipe"] == "he2026"
        assert {"--lr": "0.1", "--epochs": "200", "--milestones": "80,120", "--dataset": "cifar10"}.items() <= (
            written.items()
        )
