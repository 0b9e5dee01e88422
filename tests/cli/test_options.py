"""Options that commands derive from the fields of `RunConfig`."""

import typer
from typer.testing import CliRunner

from resnet_cli.cli.options import config_options


def parse(*arguments):
    """The values that a command with some derived options receives for `arguments`, or its error message."""
    seen = []
    app = typer.Typer()

    @app.command()
    @config_options("limit_train", "epochs", "lr", "milestones", "deterministic", arch="Only this architecture.")
    def command(*, first: str = "", given: dict[str, object]):
        seen.append(given)

    result = CliRunner().invoke(app, list(arguments))
    return seen[0] if seen else result.output + str(result.exception)


def test_a_command_receives_only_the_options_that_were_given():
    assert parse() == {}
    assert parse("--lr", "0", "--arch", "plain") == {"lr": 0.0, "arch": "plain"}
    assert parse("--deterministic", "--milestones", "80,120") == {"deterministic": True, "milestones": (80, 120)}
    assert parse("--milestones", "none") == parse("--milestones", "") == {"milestones": ()}


def test_none_unsets_an_optional_field_and_counts_as_given():
    assert parse("--limit-train", "none", "--epochs", "3") == {"limit_train": None, "epochs": 3}
    assert "limit_train must be a valid integer or none (got 'few')" in parse("--limit-train", "few")


def test_an_option_value_of_another_type_is_rejected():
    assert "'mobile' is not one of 'plain', 'resnet'" in " ".join(parse("--arch", "mobile").replace("│", "").split())
    assert "--lr" in parse("--lr", "fast")
    assert "milestones 'ten' is not a list of numbers" in parse("--milestones", "ten")


def test_the_help_of_an_option_is_the_description_of_its_field_or_the_text_of_the_command():
    shown = " ".join(parse("--help").replace("│", "").split())
    assert "Initial learning rate." in shown
    assert "Only this architecture." in shown
    assert "─ Training ─" in shown
