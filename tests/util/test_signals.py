"""Stop signals: the first sets a flag, the second has its usual effect, and handlers are restored."""

import contextlib
import signal
import subprocess
import sys
import threading

import pytest

from resnet_cli.errors import InterruptedByUserError, StoppedError
from resnet_cli.util.signals import StopFlag, StopInterrupt

STOP_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]


@pytest.fixture(autouse=True)
def _usual_handlers():
    """Give signals Python's own handlers, and restore those of the test runner afterwards."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGUSR1: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def handlers():
    return [signal.getsignal(number) for number in STOP_SIGNALS]


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_stop_signal_sets_the_name_of_the_stop_flag_and_interrupts_nothing(number):
    with StopFlag() as flag:
        assert flag.signal_name is None
        signal.raise_signal(number)
        assert flag.signal_name == number.name


def test_a_second_ctrl_c_interrupts_as_it_usually_does():
    with StopFlag() as flag:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert flag.signal_name == "SIGINT"


def test_later_signals_can_be_ignored():
    with StopFlag(ignores_more=True) as flag:
        for number in STOP_SIGNALS:
            signal.raise_signal(number)
    assert flag.signal_name == STOP_SIGNALS[-1].name


@pytest.mark.parametrize(("first", "second"), [("SIGTERM", "SIGTERM"), ("SIGINT", "SIGTERM"), ("SIGUSR1", "SIGUSR1")])
def test_a_second_signal_ends_the_process_as_it_usually_does(first, second):
    code = (
        "import signal\n"
        "from resnet_cli.util.signals import StopFlag\n"
        "with StopFlag() as flag:\n"
        f"    signal.raise_signal(signal.{first})\n"
        "    print(flag.signal_name, flush=True)\n"
        f"    signal.raise_signal(signal.{second})\n"
        "    print('still here', flush=True)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stdout.split() == [first]
    assert ended.returncode == -signal.Signals[second]


def test_signal_handlers_are_restored_after_a_signal_and_at_the_end_even_of_an_exception():
    before = handlers()
    with contextlib.suppress(ZeroDivisionError), StopFlag():
        assert all(ours != usual for ours, usual in zip(handlers(), before, strict=True))
        raise ZeroDivisionError
    assert handlers() == before
    with StopFlag():
        signal.raise_signal(signal.SIGTERM)
        assert handlers() == before
    assert handlers() == before


def test_a_stop_flag_can_be_used_again():
    flag = StopFlag()
    with flag:
        signal.raise_signal(signal.SIGTERM)
    with flag:
        signal.raise_signal(signal.SIGUSR1)
    assert flag.signal_name == "SIGUSR1"


def test_a_stop_flag_outside_the_main_thread_changes_no_handler_and_is_never_set():
    before = handlers()
    seen = []

    def work():
        with StopFlag() as flag:
            seen.append((handlers() == before, flag.signal_name))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(True, None)]
    assert handlers() == before


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_stop_interrupt_ends_the_work_at_once_even_where_errors_are_ignored(number):
    kind = InterruptedByUserError if number == signal.SIGINT else StoppedError
    context = StopInterrupt("go on later")
    with pytest.raises(kind, match=f"stopped by {number.name}; go on later"), context, contextlib.suppress(Exception):
        signal.raise_signal(number)
    assert handlers() == [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]


def test_other_errors_pass_through_a_stop_interrupt():
    with pytest.raises(ValueError, match="mine"), StopInterrupt("go on later"):
        raise ValueError("mine")
