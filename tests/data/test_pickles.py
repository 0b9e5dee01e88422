"""The reader of CIFAR's pickles reads exactly those and executes nothing."""

import hashlib
import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
import tiny_cifar
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resnet_cli.data import pickles
from resnet_cli.data.cifar import CIFAR10, CIFAR100
from resnet_cli.data.pickles import read_pickle
from resnet_cli.errors import InputError

VALUES = tiny_cifar.batch("data_batch_1", 3, seed=0)
REAL = tiny_cifar.python2_pickle(VALUES)
ARRAY = (
    b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01%bcnumpy\ndtype\n%bK\x00K\x01\x87R"
    b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89%btb"
)


def in_dict(value):
    """A pickle of `{b"a": value}`, where `value` is in pickle's own language."""
    return b"\x80\x02}U\x01a" + value + b"s."


def same(values, expected):
    return values.keys() == expected.keys() and all(np.array_equal(values[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("meta", "published"),
    [(tiny_cifar.META, CIFAR10.meta), (tiny_cifar.META_100, CIFAR100.meta)],
    ids=["CIFAR-10", "CIFAR-100"],
)
def test_the_published_file_of_class_names_is_read(meta, published):
    data = tiny_cifar.python2_pickle(meta)
    assert hashlib.md5(data, usedforsecurity=False).hexdigest() == published.md5, (
        "the rebuilt file is the published one"
    )
    assert read_pickle(data, published.name) == meta


def test_a_batch_as_python_2_wrote_it_is_read():
    assert same(read_pickle(REAL, "batch"), VALUES)


def test_a_batch_as_python_3_writes_it_in_protocol_2_is_read():
    assert same(read_pickle(pickle.dumps(VALUES, 2), "batch"), VALUES)


def test_an_array_in_column_order_is_read():
    values = {b"data": np.asfortranarray(VALUES[b"data"])}
    assert same(read_pickle(pickle.dumps(values, 2), "batch"), values)


def test_more_strings_than_short_memo_indices_are_read():
    values = {b"filenames": [b"%d" % i for i in range(1000)], b"labels": [-1, 70_000, 2**40]}
    assert read_pickle(pickle.dumps(values, 2), "batch") == values


def test_the_same_object_twice_is_read_from_the_memo():
    word = b"word" * 100
    values = {b"a": [[word] * 2] * 300, b"b": (), b"c": (None, True, False, (word,))}
    assert read_pickle(pickle.dumps(values, 2), "batch") == values
    words = [b"%d" % i for i in range(300)]
    assert read_pickle(pickle.dumps({b"a": words + words}, 2), "batch") == {b"a": words + words}


class Calls:
    """Pickles as a call of `function`, like the exploits that are found in the wild."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def deep_tuples(depth):
    return b")" + b"\x85" * depth


CANARY = "canary-was-touched"
HOSTILE = {
    "os.system": pickle.dumps({b"a": Calls(os.system, f"touch {CANARY}")}, 2),
    "subprocess.Popen": pickle.dumps({b"a": Calls(subprocess.Popen, ["touch", CANARY])}, 2),
    "eval": pickle.dumps({b"a": Calls(eval, f"open({CANARY!r}, 'w')")}, 2),
    "exec at the top": pickle.dumps(Calls(exec, f"open({CANARY!r}, 'w')"), 2),
    "open": pickle.dumps({b"a": Calls(open, CANARY, "w")}, 2),
    "getattr": pickle.dumps({b"a": Calls(getattr, "", "join")}, 2),
    "numpy's own loader": in_dict(b"cnumpy\nload\nU\x01x\x85R"),
    "numpy's exec helper": in_dict(b"cnumpy.testing._private.utils\nrunstring\nU\x04a=1\n}\x86R"),
    "an old-style instance": b"(S'touch " + CANARY.encode() + b"'\nios\nsystem\n.",
    "an old-style object": in_dict(b"(cos\nsystem\nU\x04trueo"),
    "a new-style object": in_dict(b"cbuiltins\nobject\n)\x81"),
    "a name from the stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "an extension code": in_dict(b"\x82\x01"),
    "a persistent id": in_dict(b"Pos.system\n"),
    "a buffer from outside": in_dict(b"\x97"),
    "a state for a name": in_dict(b"cnumpy\nndarray\n}U\x0b__reduce__K\x00sb"),
    "a call of a string": in_dict(b"U\x06systemU\x04true\x85R"),
    "a call of numpy.ndarray": in_dict(b"cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85\x85R"),
    "a compressing codec": in_dict(b"c_codecs\nencode\nX\x01\x00\x00\x00aU\x03zip\x86R"),
    "a string beyond latin-1": in_dict(b"c_codecs\nencode\nX\x03\x00\x00\x00\xe2\x82\xacX\x06\x00\x00\x00latin1\x86R"),
    "text that is not UTF-8": in_dict(b"X\x01\x00\x00\x00\xff"),
    "an array of objects": in_dict(ARRAY % (b"K\x01K\x01\x86", b"U\x02O8", b"]")),
    "an array of floats": in_dict(ARRAY % (b"K\x01K\x01\x86", b"U\x02f8", b"U\x0812345678")),
    "an array of a nameless type": in_dict(ARRAY % (b"K\x01K\x01\x86", deep_tuples(99), b"U\x01x")),
    "an array larger than its bytes": in_dict(
        ARRAY % (b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", b"U\x02u1", b"U\x01x")
    ),
    "an array of negative size": in_dict(ARRAY % (b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", b"U\x02u1", b"U\x01x")),
    "an empty array of huge width": in_dict(ARRAY % (b"K\x00\x8a\x08" + b"\x7f" * 8 + b"\x86", b"U\x02u1", b"U\x00")),
    "an array of three dimensions": in_dict(ARRAY % (b"K\x01K\x01K\x01\x87", b"U\x02u1", b"U\x01x")),
    "a dtype in place of the array": in_dict(ARRAY[:36] + b"cnumpy\ndtype\nK\x00\x85U\x01b\x87R"),
    "a subclass of the array": in_dict(b"cnumpy.core.multiarray\n_reconstruct\nU\x06memmapK\x00\x85U\x01b\x87R"),
    "an endless string": b"\x80\x02}U\x01aT\xff\xff\xff\x7fabc",
    "an endless name": in_dict(b"c" + b"a" * 1000),
    "an endless integer": in_dict(b"\x8a\xff" + b"\x7f" * 255),
    "a huge byte array": b"\x80\x02\x96" + struct.pack("<Q", 2**60),
    "keys of nested tuples": b"\x80\x02}" + deep_tuples(100_000) + b"K\x00s.",
    "a number as key": b"\x80\x02}K\x01K\x01s.",
    "text as key": b"\x80\x02}X\x01\x00\x00\x00aK\x01s.",
    "a memo that was never set": in_dict(b"j\xff\xff\xff\xff"),
    "items for a number": in_dict(b"K\x01(K\x02e"),
    "a key without value": b"\x80\x02}(U\x01au.",
    "no mark": in_dict(b"t"),
    "an empty stack": b"\x80\x02\x86.",
    "nothing to append to": b"\x80\x02K\x01a.",
    "a list at the top": b"\x80\x02].",
    "protocol 3": b"\x80\x03}.",
    "bytes after the end": in_dict(b"N") + b"cos\nsystem\n.",
    "nothing": b"",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_pickle_is_refused_in_one_line_and_nothing_is_executed(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^data_batch_1 is not a CIFAR file: ") as caught:
        read_pickle(data, "data_batch_1")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250
    assert list(tmp_path.iterdir()) == []


def test_the_refusal_names_what_the_pickle_asks_for():
    with pytest.raises(InputError, match=r"it asks for 'builtins\.eval'"):
        read_pickle(b"\x80\x02cbuiltins\neval\n.", "batch")


def test_a_huge_memo_index_costs_nothing():
    assert read_pickle(b"\x80\x02}r\xff\xff\xff\xff.", "batch") == {}


def test_a_pickle_that_is_too_large_is_not_even_looked_at(monkeypatch):
    monkeypatch.setattr(pickles, "MAX_BYTES", len(REAL) - 1)
    with pytest.raises(InputError, match="are too many"):
        read_pickle(REAL, "batch")


def test_a_pickle_of_endlessly_many_operations_is_left(monkeypatch):
    monkeypatch.setattr(pickles, "MAX_OPERATIONS", 1000)
    with pytest.raises(InputError, match="more than 1,000 operations"):
        read_pickle(b"\x80\x02" + b"]" * 1001, "batch")


def test_every_truncation_is_refused():
    for length in [*range(200), *range(200, len(REAL), 97), len(REAL) - 1]:
        with pytest.raises(InputError):
            read_pickle(REAL[:length], "batch")


def outcome(data):
    """What comes of reading `data`: a dictionary or the one error there is; any other exception is the test's."""
    try:
        return "a dictionary" if type(read_pickle(data, "batch")) is dict else "something else\n"
    except InputError as error:
        return str(error)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes_give_data_or_one_line(data):
    damaged = bytearray(REAL)
    outside_pixels = [*range(250), *range(len(REAL) - 80, len(REAL))]
    for position in data.draw(st.lists(st.sampled_from(outside_pixels), min_size=1, max_size=4)):
        damaged[position] = data.draw(st.integers(0, 255))
    assert outcome(bytes(damaged)) == "a dictionary" or "\n" not in outcome(bytes(damaged))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*pickles._OPERATIONS, b".", b"\x00", b"\x01", b"a"]), max_size=40))
@example([])
def test_any_sequence_of_operations_gives_data_or_one_line(operations):
    data = b"\x80\x02" + b"".join(operations)
    assert outcome(data) == "a dictionary" or "\n" not in outcome(data)


def test_the_limits_leave_room_for_the_largest_file():
    """CIFAR-100's training file: 50,000 names and two labels each."""
    values = {b"filenames": [b"%d.png" % i for i in range(50_000)], b"fine_labels": [1] * 50_000} | {
        b"coarse_labels": [2] * 50_000
    }
    assert read_pickle(tiny_cifar.python2_pickle(values), "train") == values
    assert CIFAR100.train[0].max_bytes < pickles.MAX_BYTES


def test_nothing_is_imported_for_a_name_in_a_pickle():
    with pytest.raises(InputError):
        read_pickle(b"\x80\x02cantigravity\nfly\n.", "batch")
    assert "antigravity" not in sys.modules
