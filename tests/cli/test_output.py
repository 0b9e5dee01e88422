"""Output of all commands: results on stdout in three modes, messages on stderr, no raw control characters."""

import io
import json
import math
import re
import sys
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.table import Table

from resnet_cli.cli import output as output_module
from resnet_cli.cli.output import Output
from resnet_cli.util.text import printable

TERMINAL_VARIABLES = (
    "NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "JUPYTER_COLUMNS", "LINES",
)  # fmt: skip


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """A terminal of 100 columns with colours, whatever runs the tests."""
    for name in TERMINAL_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    return monkeypatch


@pytest.fixture
def terminal(monkeypatch):
    """Call it to make stdout and stderr terminals (pytest takes them back between fixture and test); returns stderr."""

    def connect():
        monkeypatch.setattr(sys, "stdout", Terminal())
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    return connect


@pytest.fixture
def clock(monkeypatch):
    """The clock of the output, which stands still until a test moves it."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(output_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def print_everything(output):
    """Every kind of output of a command, in order."""
    output.note("reading 2 runs")
    with output.progress() as progress:
        progress("measuring", 1, 1, "runs")
    output.warn("one run is incomplete")
    table = Table(box=None)
    table.add_column("network")
    table.add_column("error", justify="right")
    table.add_row("plain-56", "13.29 %")
    output.result({"network": "plain-56", "error_pct": 13.29, "gap": math.nan}, table)
    output.error("the gap is not measured")


JSON_RESULT = """\
{
  "schema_version": 1,
  "network": "plain-56",
  "error_pct": 13.29,
  "gap": null
}
"""
HUMAN_RESULT = " network     error \n plain-56  13.29 % \n"
WARNING_AND_ERROR = "warning: one run is incomplete\nerror: the gap is not measured\n"
ALL_OF_IT = f"reading 2 runs\nmeasuring: 1 of 1 runs\n{WARNING_AND_ERROR}"


class TestModes:
    @pytest.mark.parametrize(
        ("modes", "result", "rest"),
        [
            ({}, HUMAN_RESULT, ALL_OF_IT),
            ({"json": True}, JSON_RESULT, ALL_OF_IT),
            ({"quiet": True}, HUMAN_RESULT, WARNING_AND_ERROR),
            ({"json": True, "quiet": True}, JSON_RESULT, WARNING_AND_ERROR),
        ],
        ids=["human", "json", "quiet", "json quiet"],
    )
    def test_results_go_to_stdout_and_all_else_to_stderr(self, capsys, modes, result, rest):
        print_everything(Output(**modes))
        assert capsys.readouterr() == (result, rest)

    def test_a_result_without_a_view_is_printed_as_json_only(self, capsys):
        Output().result({"n": 1}, None)
        assert capsys.readouterr().out == ""
        Output(json=True).result({"n": 1}, None)
        assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "n": 1}

    @pytest.mark.parametrize(("text", "printed"), [("a,b\n1,2\n", "a,b\n1,2\n"), ("a,b", "a,b\n"), ("", "\n")])
    def test_raw_text_is_printed_unchanged_with_a_final_line_break(self, capsys, text, printed):
        Output().raw(text)
        assert capsys.readouterr() == (printed, "")

    def test_loading_torch_is_announced_unless_it_is_loaded(self, capsys, monkeypatch):
        monkeypatch.delitem(sys.modules, "torch", raising=False)
        Output(json=True).loading_torch()
        assert capsys.readouterr() == ("", "loading PyTorch\n")
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
        Output().loading_torch()
        assert capsys.readouterr() == ("", "")

    def test_messages_on_a_terminal_break_between_words_only(self, terminal, environment):
        environment.setenv("COLUMNS", "30")
        stream = terminal()
        path = "runs/" + "long-" * 8
        Output().error(f"{path} contains another run; choose another --out")
        text = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
        assert text.splitlines() == ["error:", path, "contains another run; choose", "another --out"]

    def test_markup_and_emoji_codes_are_printed_literally(self, capsys):
        output = Output()
        output.note("[bold]runs[/x] :smile:")
        output.result({}, "[red]3[/red]")
        assert capsys.readouterr() == ("[red]3[/red]\n", "[bold]runs[/x] :smile:\n")


class TestJson:
    def test_nan_and_infinity_are_null_in_json_at_any_depth(self, capsys):
        class Row(msgspec.Struct):
            error: float

        document = {"a": [math.nan, 1.5], "b": {"c": (math.inf, "nan")}, "d": Row(math.nan), 2: -math.inf}
        Output(json=True).result(document, None)
        read = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
        assert read == {
            "schema_version": 1, "a": [None, 1.5], "b": {"c": [None, "nan"]}, "d": {"error": None}, "2": None,
        }  # fmt: skip

    def test_json_on_a_terminal_has_no_escape_sequences(self, terminal):
        terminal()
        print_everything(Output(json=True))
        assert sys.stdout.getvalue() == JSON_RESULT
        Output(json=True).result({"path": "a\x1b[31mb\n"}, None)
        assert "\x1b" not in sys.stdout.getvalue()


HOSTILE = "run\x1b[2J\x1b]0;owned\x07\n\r\t\x08\x00\x9b31m\u2028\u202e end"


class TestControlCharacters:
    @pytest.mark.parametrize("method", ["note", "warn", "error"])
    def test_control_characters_in_messages_are_printed_as_escapes_on_one_line(self, capsys, method):
        getattr(Output(), method)(HOSTILE)
        line, rest = capsys.readouterr().err.split("\n")
        assert rest == ""
        assert line.isprintable()
        assert r"run\x1b[2J\x1b]0;owned\x07\n\r\t\x08\x00\x9b31m\u2028\u202e end" in line

    def test_a_terminal_receives_no_escape_sequences_except_colours(self, terminal):
        stderr = terminal()
        Output().error(HOSTILE)
        printed = stderr.getvalue()
        assert re.findall(r"\x1b\[[0-9;]*[A-Za-z]", printed) == ["\x1b[31m", "\x1b[0m"]
        assert "\\x1b[2J" in printed

    @pytest.mark.parametrize("live", [True, False])
    def test_control_characters_in_progress_labels_are_escaped(self, terminal, environment, live):
        stderr = terminal()
        environment.setenv("TERM", "xterm" if live else "dumb")
        with Output().progress() as progress:
            progress(f"reading {HOSTILE}", 1, 2)
        assert r"reading run\x1b[2J\x1b]0;owned\x07" in stderr.getvalue()
        assert "\x1b[2J" not in stderr.getvalue()

    @settings(deadline=None)
    @given(st.text())
    def test_printable_text_is_unchanged_and_other_text_becomes_printable(self, text):
        shown = printable(text)
        assert shown.isprintable()
        assert (shown == text) == text.isprintable()


class TestTerminals:
    @pytest.mark.parametrize(
        ("variables", "printed"),
        [
            ({}, "\x1b[33mwarning: careful\x1b[0m\n"),
            ({"NO_COLOR": "1"}, "warning: careful\n"),
            ({"TERM": "dumb"}, "warning: careful\n"),
            ({"TERM": "unknown"}, "warning: careful\n"),
        ],
    )
    def test_a_terminal_receives_colours_unless_it_declines_them(self, terminal, environment, variables, printed):
        stderr = terminal()
        for name, value in variables.items():
            environment.setenv(name, value)
        Output().warn("careful")
        assert stderr.getvalue() == printed

    @pytest.mark.parametrize(
        ("variables", "modes", "live"),
        [
            ({}, {}, True), ({}, {"json": True}, True), ({"NO_COLOR": "1"}, {}, True),
            ({}, {"quiet": True}, False), ({"TERM": "dumb"}, {}, False),
        ],
    )  # fmt: skip
    def test_progress_is_live_on_a_capable_terminal_unless_quiet(self, terminal, environment, variables, modes, live):
        terminal()
        for name, value in variables.items():
            environment.setenv(name, value)
        assert Output(**modes).is_live is live

    @pytest.mark.parametrize(("method", "prefix"), [("note", ""), ("warn", "warning: "), ("error", "error: ")])
    def test_off_a_terminal_a_long_message_stays_on_one_line(self, capsys, method, prefix):
        text = " ".join(f"/scratch/run-{i}" for i in range(60))
        getattr(Output(), method)(text)
        assert capsys.readouterr().err == f"{prefix}{text}\n"

    def test_off_a_terminal_a_table_is_wider_than_eighty_columns(self, capsys):
        table = Table(*(f"column number {i}" for i in range(10)), box=None)
        Output().result({}, table)
        (line,) = capsys.readouterr().out.splitlines()
        assert line.split() == [word for i in range(10) for word in ("column", "number", str(i))]

    def test_progress_fits_a_narrow_terminal(self, terminal, environment):
        stderr = terminal()
        environment.setenv("COLUMNS", "40")
        with Output().progress() as progress:
            progress("unpacking cifar-10-python.tar.gz in /scratch", 10**6, 17 * 10**7, "bytes")
        rows = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stderr.getvalue()).replace("\r", "\n").split("\n")
        assert any("unpacking" in row for row in rows)
        assert max(map(len, rows)) <= 40


class TestProgressLines:
    def test_off_a_terminal_progress_prints_its_first_and_last_step_and_one_every_five_seconds(self, capsys, clock):
        with Output().progress() as progress:
            for done in range(0, 101, 5):
                progress("decoding", done, 100, "images")
                clock.now += 1
        assert capsys.readouterr().err.splitlines() == [
            f"decoding: {done} of 100 images" for done in (0, 25, 50, 75, 100)
        ]

    def test_off_a_terminal_a_new_task_prints_its_first_step_at_once(self, capsys, clock):
        with Output().progress() as progress:
            progress("downloading", 1_500_000, 170_498_071, "bytes")
            progress("verifying", 0, 2000)
        assert capsys.readouterr().err.splitlines() == ["downloading: 1.5 of 170.5 MB", "verifying: 0 of 2,000"]

    def test_off_a_terminal_a_task_of_unknown_length_is_printed_once(self, capsys, clock):
        with Output().progress() as progress:
            progress("listing", 0, 0)
            progress("listing", 0, 0)
        assert capsys.readouterr().err == "listing: 0 of 0\n"

    def test_an_exception_removes_the_progress_bar_and_is_passed_on(self, terminal):
        stderr = terminal()

        def work():
            with Output().progress() as progress:
                progress("decoding", 1, 2)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            work()
        assert stderr.getvalue().endswith("\x1b[2K")  # the bar is gone


class TestProgressBars:
    def test_a_progress_bar_shows_the_task_the_amount_and_the_total(self, terminal):
        stderr = terminal()
        with Output().progress() as progress:
            progress("downloading", 0, 170_498_071, "bytes")
            progress("downloading", 85_249_035, 170_498_071, "bytes")
        assert "downloading" in stderr.getvalue()
        assert "85.2 of 170.5 MB" in stderr.getvalue()

    def test_a_new_task_replaces_the_previous_one_in_the_progress_bar(self, terminal):
        stderr = terminal()
        with Output().progress() as progress:
            progress("downloading", 1, 2)
            before = len(stderr.getvalue())
            progress("verifying", 3, 4, "files")
        after = stderr.getvalue()[before:]
        assert "3 of 4 files" in after
        assert "downloading" not in after

    @pytest.mark.parametrize("label", ["reading data[/old]", "reading [red]cats[/red]", "reading {task.total}"])
    def test_markup_in_the_label_of_a_progress_bar_is_shown_literally(self, terminal, label):
        stderr = terminal()
        with Output().progress() as progress:
            progress(label, 1, 2)
        assert label in stderr.getvalue()
