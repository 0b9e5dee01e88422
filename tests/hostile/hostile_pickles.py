"""Pickles that run a command, or that no interpreter survives, when a careless program loads them."""

import io
import pickle
import zipfile
from pathlib import Path

import torch

# `torch.serialization`: what a file in PyTorch's older format begins with, and its version of that format
_LEGACY_START = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]


def _text(value):
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def _call(name, *arguments):
    """A pickle of `{"state_dict": name(*arguments)}`; an argument is text or pickled code."""
    parts = [_text(argument) if isinstance(argument, str) else argument for argument in arguments]
    return _holding(b"c" + name.replace(" ", "\n").encode() + b"\n(" + b"".join(parts) + b"tR")


def _holding(code):
    return b"\x80\x02}" + _text("state_dict") + code + b"s."


def _list(*items):
    return b"](" + b"".join(map(_text, items)) + b"e"


def executing(canary: Path) -> dict[str, bytes]:
    """Pickles that make the file `canary`, each in another way, when `pickle.load` reads them."""
    command, code, path = f"touch {canary}", f"open({str(canary)!r}, 'w').close()", _text(str(canary))
    return {
        "os.system": _call("posix system", command),
        "os.posix_spawn": _call("posix posix_spawn", "/usr/bin/touch", _list("touch", str(canary)), b"}"),
        "subprocess.Popen": _call("subprocess Popen", _list("touch", str(canary))),
        "subprocess.check_output": _call("subprocess check_output", _list("touch", str(canary))),
        "eval": _call("__builtin__ eval", code),
        "exec": _call("builtins exec", code),
        "open": _call("builtins open", str(canary), "w"),
        "a method by getattr": _holding(
            b"cbuiltins\ngetattr\n(cpathlib\nPath\n" + path + b"\x85R" + _text("touch") + b"tR)R"
        ),
        "a copy of a file": _call("shutil copyfile", "/etc/hostname", str(canary)),
        "runpy": _call("runpy _run_code", code, b"}"),
        "timeit": _call("timeit timeit", code),
        "the profiler": _call("cProfile run", code, str(canary)),
        "PyTorch's shell": _call("torch.utils.collect_env run", command),
        "PyTorch's exec": _call("torch.jit.unsupported_tensor_ops execWrapper", code, b"}", b"}"),
        "PyTorch's writer": _call("torch.serialization save", b"N", str(canary)),
        "NumPy's writer": _call("numpy savetxt", str(canary), b"](K\x01e"),
        "NumPy's exec": _call("numpy.testing._private.utils runstring", code, b"}"),
        "an old instance": _holding(b"(" + _text(command) + b"iposix\nsystem\n"),
        "an old object": _holding(b"(cposix\nsystem\n" + _text(command) + b"o"),
        "a name from the stack": b"\x80\x04}" + _text("a") + _text("posix") + _text("system") + b"\x93("
        + _text(command) + b"tRs.",
    }  # fmt: skip


def unusual() -> dict[str, bytes]:
    """Operations by which a pickle makes objects that are no data."""
    return {
        "a new object": _holding(b"csubprocess\nPopen\n(" + _list("touch") + b"t\x81"),
        "a new object with names": _holding(b"csubprocess\nPopen\n)}" + _text("args") + _list("touch") + b"s\x92"),
        "an extension code": _holding(b"\x82\x01"),
        "a persistent id": _holding(b"cposix\nsystem\n" + _text("true") + b"\x86Q"),
        "a state": _holding(b"ctorch.nn.modules.module\nModule\n)\x81}" + _text("__class__") + _text("a") + b"sb"),
    }


def _doubling(first, double, levels=60):
    """Nested containers, each of which holds the one before twice."""
    return first + b"q\x00" + b"".join(double(b"h%c" % (i - 1)) + b"q%c" % i for i in range(1, levels))


def bombs() -> dict[str, bytes]:
    """Pickles of a few bytes, most of them, that hang, crash or fill the memory of what loads them."""
    tuples = _doubling(b")", lambda last: last * 2 + b"\x86")
    lists = _doubling(b"]", lambda last: b"](" + last * 2 + b"e")
    return {
        "a key that takes for ever to hash": b"\x80\x02" + tuples + b"}h\x3bK\x01s.",
        "a key that overflows the stack when it is hashed": b"\x80\x02})" + b"\x85" * 1_000_000 + b"K\x01s.",
        "a function that takes for ever to print": b"\x80\x02" + lists + b")R.",
        "a storage with a name that takes for ever to print": b"\x80\x02" + lists + b"("
        + _text("storage") + b"ctorch\nFloatStorage\nh\x3b" + _text("cpu") + b"K\x01tQ.",
        "a string that doubles": b"\x80\x02c_codecs\nencode\nq\x00" + _text("aaaa") + _text("latin1") + b"\x86Rq\x01"
        + b"".join(b"h\x00h%c" % (i - 1) + _text("hex") + b"\x86Rq%c" % i for i in range(2, 60)) + b".",
        "a huge byte array": _call("__builtin__ bytearray", b"\x8a\x06\x00\x00\x00\x00\x00\x10"),
        "a huge tensor": _call("torch FloatTensor", b"\x8a\x06\x00\x00\x00\x00\x00\x10"),
        "a huge storage": _call("torch.storage UntypedStorage", b"\x8a\x06\x00\x00\x00\x00\x00\x10"),
    }  # fmt: skip


def as_raw(data: bytes, path: Path) -> Path:
    """The bare pickle under the name of a weight file."""
    path.write_bytes(data)
    return path


def as_zip(data: bytes, path: Path) -> Path:
    """The pickle in the place of the content of a file that `torch.save` wrote."""
    torch.save({"a": torch.zeros(2)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, data if name.endswith("/data.pkl") else content)
    return path


def as_legacy(data: bytes, path: Path) -> Path:
    """The pickle in the place of the content of a file in PyTorch's older format."""
    stream = io.BytesIO()
    for value in _LEGACY_START:
        pickle.dump(value, stream, 2)
    stream.write(data)
    pickle.dump([], stream, 2)
    path.write_bytes(stream.getvalue())
    return path
