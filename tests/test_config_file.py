"""Configurations are written as TOML and read back, and hostile files are refused in one line."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import INDEPENDENT

from resnet_cli.config import FIELDS, RunConfig
from resnet_cli.config_file import config_toml, read_config_file
from resnet_cli.errors import InputError
from resnet_cli.recipes import make_config

BASE = make_config("demo", arch="plain", depth=8).to_dict()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("config") / "config.toml"


@settings(max_examples=100, deadline=None)
@given(
    changes=st.fixed_dictionaries(INDEPENDENT),
    recipe=st.text(st.characters(exclude_categories=["Cs"])),
    milestones=st.lists(st.integers(1, 10**6), unique=True).map(sorted),
)
def test_a_configuration_read_back_from_its_toml_text_is_the_same(file, changes, recipe, milestones):
    config = RunConfig.from_dict({**BASE, **changes, "recipe": recipe, "milestones": milestones})
    file.write_text(config_toml(config), encoding="utf-8", newline="")
    assert RunConfig.from_dict(read_config_file(file)) == config


def test_the_toml_text_has_one_line_per_field_that_is_set():
    text = config_toml(make_config("report2025", arch="resnet", depth=56, milestones=(80, 120), deterministic=True))
    lines = text.splitlines()
    assert {
        'recipe = "report2025"', "depth = 56", "epochs = 200", "lr = 0.1", "weight_decay = 0.0001",
        "milestones = [80, 120]", "deterministic = true",
    } <= set(lines)  # fmt: skip
    assert not [line for line in lines if line.startswith(("steps", "limit_train"))]


def test_control_characters_in_a_recipe_name_are_escaped_in_the_toml_text():
    text = config_toml(RunConfig.from_dict({**BASE, "recipe": 'a"\n\x1b[31m\x7f\u202e\\'}))
    assert text.splitlines()[0] == r'recipe = "a\"\n\u001b[31m\U0000007F\U0000202E\\"'


def test_initial_weights_are_written_and_read_as_a_path(file, tmp_path):
    config = RunConfig.from_dict(BASE)
    file.write_text(config_toml(config, init_from=tmp_path / 'a "copy"'))
    values = read_config_file(file)
    assert values.pop("init_from") == str(tmp_path / 'a "copy"')
    assert RunConfig.from_dict(values) == config
    for wrong in ("init_from = 1", 'init_from = ""', "init_from = [1]"):
        file.write_text(wrong)
        with pytest.raises(InputError, match=r"config\.toml: init_from must be a path \(got "):
            read_config_file(file)


def test_a_file_may_contain_any_subset_of_the_fields(file):
    file.write_text('# shared by all runs\nrecipe = "demo"\nlr = 1\n\nmilestones = [5]\n')
    assert read_config_file(file) == {"recipe": "demo", "lr": 1, "milestones": [5]}


def test_a_file_of_an_older_version_lacks_fields_that_came_later_and_does_not_set_them(file):
    lines = config_toml(RunConfig.from_dict(BASE)).splitlines()
    file.write_text("\n".join(line for line in lines if not line.startswith("gradflow_every")))
    values = read_config_file(file)
    assert set(FIELDS) - set(values) >= {"gradflow_every", "limit_train"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"learning_rate = 0.1\nlr_decaay = 1", r"unknown key 'learning_rate'"),
        (b"epoch = 3", r"unknown key 'epoch'; did you mean epochs"),
        (b"zzz = 3", r"unknown key 'zzz'; the keys are recipe, arch, "),
        (b"[train]\nlr = 0.1", r"unknown key 'train'"),
        (b'"\\u001b[31m" = 0.1', r"unknown key '\\\\?x1b\[31m'"),
        (b'lr = "fast"', r"lr must be a number \(got 'fast'\)"),
        (b"lr = nan", r"lr must be between 0 and 1e6 \(got nan\)"),
        (b"lr = 1979-05-27", r"lr must be a number \(got datetime\.date"),
        (b"depth = true", r"depth must be a whole number \(got True\)"),
        (b"deterministic = 1", r"deterministic must be true or false \(got 1\)"),
        (b'arch = ["plain"]', r"arch must be one of plain, resnet"),
        (b"milestones = [80, 1.5]", r"milestones must be a list of whole numbers"),
        (b"milestones = [0x" + b"f" * 50_000 + b"]", r"milestones is too large"),
        (b"epochs = 0x" + b"f" * 50_000, r"is not a valid TOML file: Exceeds the limit"),
        (b"epochs = " + b"9" * 50_000, r"is not a valid TOML file: Exceeds the limit"),
        (b"lr = 0.1\nlr = 0.2", r"is not a valid TOML file: Cannot overwrite a value"),
        (b"lr 0.1", r"is not a valid TOML file: Expected '='"),
        (b"lr = " + b"[" * 100_000, r"is not a valid TOML file"),
        (b"\xff\xfe", r"is not a valid TOML file: 'utf-8' codec"),
        (b"#" * (2**20 + 1), r"is larger than 1 MiB"),
    ],
)
def test_an_unusable_file_is_refused_in_one_line_that_names_it(file, content, message):
    file.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_config_file(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_missing_file_or_a_pipe_is_refused_without_waiting(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml is missing"):
        read_config_file(tmp_path / "none.toml")
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(InputError, match=r"pipe\.toml is not a regular file"):
        read_config_file(tmp_path / "pipe.toml")
