"""Recipes: published values, overrides, labels, and the command that repeats a configuration."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import INDEPENDENT

from resnet_cli.cli import train
from resnet_cli.cli.app import run
from resnet_cli.config import RunConfig
from resnet_cli.errors import ConfigError
from resnet_cli.recipes import RECIPES, change_config, make_config, recipe_label, train_arguments


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
OVERRIDES = st.fixed_dictionaries({}, optional=INDEPENDENT)
NETWORKS = st.sampled_from([("plain", None), ("resnet", None), ("resnet", "B"), ("plain", "none"), ("resnet", "A")])


@st.composite
def configs(draw):
    """Any configuration that a recipe and overrides of it can give."""
    arch, shortcut = draw(NETWORKS)
    fields = {**draw(OVERRIDES), **draw(LENGTHS), **({"shortcut": shortcut} if shortcut else {})}
    return make(draw(st.sampled_from(sorted(RECIPES))), arch, draw(st.sampled_from([8, 20, 56, 110, 1202])), **fields)


class TestPublishedValues:
    @pytest.mark.parametrize(
        ("recipe", "published"),
        [
            # the report, section 2.2
            ("report2025", {"val_size": 0, "normalization": "channel", "epochs": 200, "milestones": (80, 120)}),
            # arXiv 1512.03385, section 4.2
            ("he2015", {"val_size": 5_000, "normalization": "pixel-mean", "steps": 64_000,
                        "milestones": (32_000, 48_000)}),
        ],
    )  # fmt: skip
    def test_both_experiments_have_the_published_settings(self, recipe, published):
        common = {
            "dataset": "cifar10", "augment": "crop-flip", "lr": 0.1, "lr_decay": 0.1, "momentum": 0.9,
            "weight_decay": 1e-4, "batch_size": 128, "epochs": None, "steps": None,
        }  # fmt: skip
        expected = {**common, **published}
        config = make(recipe, "resnet", 56).to_dict()
        assert {name: config[name] for name in expected} == expected

    def test_the_demo_needs_no_download_and_measures_clean_training_error_every_epoch(self):
        config = make("demo")
        assert (config.dataset, config.clean_train_every) == ("digits", 1)

    def test_overnight_is_the_recipe_of_the_report_shortened_to_24_epochs_with_more_measurements(self):
        config = make("overnight")
        assert make().diff(config) == [
            "recipe: report2025 → overnight", "epochs: 200 → 24", "milestones: (80, 120) → (12, 18)",
            "clean_train_every: 10 → 1", "clean_train_images: 0 → 5000", "gradflow_every: 0 → 2",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("depth", "warmup"), [(56, (0, 0.01)), (104, (0, 0.01)), (110, (400, 0.01)), (1202, (400, 0.01))]
    )
    def test_he2015_warms_up_networks_of_110_layers_or_more(self, depth, warmup):
        config = make("he2015", "resnet", depth)
        assert (config.warmup_steps, config.warmup_lr) == warmup

    @pytest.mark.parametrize("recipe", ["report2025", "overnight"])
    def test_the_recipes_report2025_and_overnight_have_no_warm_up(self, recipe):
        assert make(recipe, "resnet", 110).warmup_steps == 0

    @pytest.mark.parametrize("name", RECIPES)
    def test_every_recipe_documents_its_source_expected_result_and_cost(self, name, capsys):
        recipe = RECIPES[name]
        assert recipe.name == make(name).recipe == name
        assert run(["train", "--help"]) == 0
        shown = "".join(capsys.readouterr().out.split())
        for text in (recipe.summary, recipe.source, recipe.expected, recipe.cost, recipe.differences):
            assert "".join(text.split()) in shown


class TestMakingConfigurations:
    @pytest.mark.parametrize(("arch", "shortcut"), [("plain", "none"), ("resnet", "A")])
    def test_the_shortcut_follows_the_architecture(self, arch, shortcut):
        assert make(arch=arch).shortcut == shortcut

    def test_an_override_of_a_recipe_changes_only_its_own_field(self):
        changed = make(lr=0.05, shortcut="B", arch="resnet")
        assert make(arch="resnet").diff(changed) == ["shortcut: A → B", "lr: 0.1 → 0.05"]

    @pytest.mark.parametrize(
        ("recipe", "length", "replaced"), [("he2015", "epochs", "steps"), ("report2025", "steps", "epochs")]
    )
    def test_a_length_in_the_other_unit_needs_milestones_in_that_unit(self, recipe, length, replaced):
        with pytest.raises(ConfigError) as caught:
            make(recipe, **{length: 50})
        assert str(caught.value) == (
            f"{length} was given, but recipe {recipe} counts its milestones in {replaced}; "
            f"give milestones in {length} too"
        )
        config = make(recipe, **{length: 50}, milestones=(20, 40))
        assert (getattr(config, length), getattr(config, replaced), config.milestones) == (50, None, (20, 40))

    def test_a_recipe_without_milestones_takes_a_length_in_either_unit(self):
        config = make("demo", steps=30)
        assert (config.epochs, config.steps, config.milestones) == (None, 30, ())

    def test_a_length_in_the_recipe_s_own_unit_keeps_its_milestones(self):
        config = make("he2015", steps=100)
        assert (config.steps, config.milestones) == (100, (32_000, 48_000))

    def test_an_unknown_recipe_is_rejected_with_the_known_ones(self):
        with pytest.raises(ConfigError) as caught:
            make("he2016")
        assert str(caught.value) == "unknown recipe 'he2016'; use recipe report2025, he2015, overnight or demo"

    def test_the_error_for_unknown_configuration_fields_names_them(self):
        with pytest.raises(ConfigError, match="unknown configuration field learning_rate, nesterov"):
            make(nesterov=True, learning_rate=0.1)


class TestChangingConfigurations:
    @settings(max_examples=100, deadline=None)
    @given(configs(), OVERRIDES)
    def test_only_the_given_fields_change(self, config, changes):
        assert change_config(config) == config
        changed = change_config(config, **changes)
        assert changed == RunConfig.from_dict({**config.to_dict(), **changes})

    def test_the_shortcut_follows_the_new_architecture(self):
        projection = make(arch="resnet", shortcut="B", lr=0.2)
        assert change_config(projection, arch="plain") == make(lr=0.2)
        assert change_config(projection, depth=56).shortcut == "B"
        assert change_config(make(), arch="resnet") == make(arch="resnet")

    def test_the_warm_up_of_a_recipe_follows_the_new_depth(self):
        assert change_config(make("he2015"), depth=110, seed=3) == make("he2015", depth=110, seed=3)

    def test_a_new_recipe_replaces_all_values_that_were_not_set_explicitly(self):
        assert change_config(make(seed=3, lr=0.2), recipe="demo") == make("demo", seed=3, lr=0.2)

    def test_another_length_in_the_same_unit_keeps_the_milestones(self):
        assert change_config(make(), epochs=300) == make(epochs=300)
        assert change_config(make(), epochs=300).milestones == (80, 120)

    @pytest.mark.parametrize(
        ("config", "changes"),
        [
            (make(), {"steps": 900}),
            (make("he2015"), {"epochs": 9}),
            (make(steps=900, milestones=(300,)), {"epochs": 9}),
        ],
    )
    def test_a_length_in_the_other_unit_needs_new_milestones(self, config, changes):
        (given,) = changes
        with pytest.raises(ConfigError, match=rf"{given} was given, but .* count .*; give .*milestones in {given} too"):
            change_config(config, **changes)
        changed = change_config(config, **changes, milestones=(5,))
        assert (changed.epochs, changed.steps) == (changes.get("epochs"), changes.get("steps"))
        assert changed.milestones == (5,)

    def test_a_constant_rate_needs_no_new_milestones(self):
        assert change_config(make("demo", steps=30), epochs=4) == make("demo", epochs=4)

    def test_a_configuration_of_an_unknown_recipe_can_be_changed(self):
        old = RunConfig.from_dict({**make().to_dict(), "recipe": "he2026"})
        changed = change_config(old, arch="resnet", steps=90, milestones=(), lr=0.3)
        assert old.diff(changed) == [
            "arch: plain → resnet", "shortcut: none → A", "epochs: 200 → None", "steps: None → 90", "lr: 0.1 → 0.3",
            "milestones: (80, 120) → ()",
        ]  # fmt: skip

    def test_an_unknown_field_is_refused(self):
        with pytest.raises(ConfigError, match="unknown configuration field nesterov"):
            change_config(make(), nesterov=True)


class TestLabels:
    @pytest.mark.parametrize(
        ("config", "label"),
        [
            (make(), "report2025"),
            (make(epochs=5, lr=0.05), "report2025 epochs=5 lr=0.05"),
            (make(milestones=(5, 8)), "report2025 milestones=5,8"),
            (make(steps=90, milestones=(30,)), "report2025 steps=90 milestones=30"),
            (make(steps=200, milestones=(80, 120)), "report2025 steps=200 milestones=80,120"),
            (make("demo", steps=30), "demo steps=30"),
            (make("he2015", depth=110), "he2015"),
            (make("he2015", depth=110, warmup_steps=0), "he2015 warmup_steps=0"),
            (make(precision="bf16"), "report2025 precision=bf16"),
            (make(limit_train=500, val_size=100), "report2025 limit_train=500 val_size=100"),
        ],
    )
    def test_the_label_of_a_run_is_its_recipe_and_the_overrides(self, config, label):
        assert recipe_label(config) == label

    def test_runs_that_differ_in_network_seed_machine_or_measurements_share_a_label(self):
        ours = make("he2015")
        theirs = make(
            "he2015", "resnet", 110, shortcut="B", seed=3, device="cpu", compile="on", deterministic=True,
            clean_train_every=1, gradflow_every=5,
        )  # fmt: skip
        assert recipe_label(ours) == recipe_label(theirs) == "he2015"

    def test_an_unknown_recipe_is_labelled_by_name_and_values(self):
        def label(**fields):
            return recipe_label(RunConfig.from_dict({**make(**fields).to_dict(), "recipe": "he2026"}))

        assert label().startswith("he2026 (")
        assert label(seed=4, arch="resnet", depth=56, device="cpu") == label()
        assert label(lr=0.2) != label()


class TestRepeating:
    def test_only_differences_from_the_recipe_become_arguments(self):
        assert train_arguments(make()) == ["train", "--recipe", "report2025", "--arch", "plain", "--depth", "20"]
        assert train_arguments(make(seed=3, milestones=(), deterministic=True, limit_train=9), data_dir="a b")[7:] == [
            "--limit-train", "9", "--milestones", "none", "--seed", "3", "--deterministic", "--data-dir", "a b",
        ]  # fmt: skip

    @settings(max_examples=150, deadline=None)
    @given(configs())
    def test_the_command_line_parses_to_the_same_configuration(self, config):
        assert parsed(train_arguments(config))[0] == config

    def test_milestones_in_the_other_unit_and_the_folder_of_the_data_are_written_out(self):
        for ours in (
            make("report2025", steps=200, milestones=(80, 120)),
            make("he2015", epochs=64_000, milestones=(32_000, 48_000)),
        ):
            config, options = parsed(train_arguments(ours, data_dir="my data"))
            assert (config, options.data_dir) == (ours, "my data")

    def test_the_values_of_an_unknown_recipe_are_written_out_in_full(self):
        arguments = train_arguments(RunConfig.from_dict({**make().to_dict(), "recipe": "he2026"}))
        written = dict(zip(arguments[1::2], arguments[2::2], strict=False))
        assert written["--recipe"] == "he2026"
        assert {"--lr": "0.1", "--epochs": "200", "--milestones": "80,120", "--dataset": "cifar10"}.items() <= (
            written.items()
        )
