"""A download is resumable, bounded, and verified before the file gets its name."""

import errno
import hashlib
import os
import re
import shutil
import threading
from collections import namedtuple

import pytest
from filelock import FileLock

from resnet_cli.data import download as module
from resnet_cli.data.download import download
from resnet_cli.errors import InputError


@pytest.fixture
def target(tmp_path):
    return tmp_path / "new" / "data.tar.gz"


@pytest.fixture
def part(target):
    return target.with_name(target.name + ".part")


@pytest.fixture
def fetch(server, target):
    """Downloads the content that the server has now, even if it serves another one later."""
    wanted = {"size": len(server.content), "sha256": hashlib.sha256(server.content).hexdigest()}
    return lambda url=server.url, **other: download(url, target, hint="fetch it by hand", **wanted, **other)


@pytest.fixture
def leave(part):
    """Leaves bytes of an earlier download."""

    def write(data):
        part.parent.mkdir()
        part.write_bytes(data)

    return write


def test_progress_of_a_download_counts_bytes_up_to_the_size(fetch, server, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 1000)
    seen = []
    fetch(progress=lambda label, done, total, unit="": seen.append((label, done, total, unit)))
    labels, done, totals, units = (set(column) for column in zip(*seen, strict=True))
    assert (labels, totals, units) == ({"downloading data.tar.gz"}, {len(server.content)}, {"bytes"})
    assert [row[1] for row in seen] == sorted(done)
    assert {0, 1000, len(server.content)} <= done


def test_an_existing_file_is_not_downloaded_again(fetch, server, target):
    target.parent.mkdir()
    target.write_bytes(b"mine")
    fetch()
    assert target.read_bytes() == b"mine"
    assert server.requests == []


def test_an_interrupted_download_is_resumed_within_one_call(fetch, server, target):
    server.cut_after = [5000, 3000]
    fetch()
    assert target.read_bytes() == server.content
    assert server.requests == [None, "bytes=5000-", "bytes=8000-"]
    assert sum(server.sent) == len(server.content), "no byte was sent twice"


def test_a_download_is_resumed_when_the_server_stops_sending(fetch, server, target, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.1)
    server.cut_after, server.pause_seconds = [5000], 0.3
    fetch()
    assert target.read_bytes() == server.content
    assert server.requests == [None, "bytes=5000-"]


def test_ctrl_c_keeps_the_bytes_downloaded_so_far(fetch, server, target, part, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 1000)

    def stop(label, done, total, unit=""):
        if done >= 3000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(progress=stop)
    assert part.read_bytes() == server.content[:3000]
    fetch()
    assert target.read_bytes() == server.content
    assert server.requests == [None, "bytes=3000-"]


RESPONSES = {  # settings of the server, bytes of the file left by an earlier download, ranges requested
    "sends the file": ({}, 0, [None]),
    "sends no length": ({"sends_length": False}, 0, [None]),
    "fails for a while": ({"answers": [503, 500]}, 0, [None, None, None]),
    "ignores ranges": ({"supports_ranges": False}, 4000, ["bytes=4000-"]),
    "resumes in the wrong place": ({"shift": 10}, 4000, ["bytes=4000-", None]),
    "refuses the range": ({"answers": [416]}, 4000, ["bytes=4000-", None]),
    "has nothing to add to a complete part": ({}, None, []),
}


@pytest.mark.parametrize(("settings", "num_bytes", "requests"), RESPONSES.values(), ids=RESPONSES.keys())
def test_a_download_is_completed_for_every_response(settings, num_bytes, requests, fetch, leave, server, target, part):
    for name, value in settings.items():
        setattr(server, name, value)
    leave(server.content[:num_bytes])
    fetch()
    assert target.read_bytes() == server.content
    assert server.requests == requests
    assert not part.exists()


def test_a_partial_download_that_is_too_long_starts_again(fetch, leave, server, target):
    leave(server.content + b"more")
    fetch()
    assert target.read_bytes() == server.content
    assert server.requests == [None]


def test_a_wrong_checksum_is_refused_with_both_sums_and_leaves_no_file(fetch, server, target, part):
    right = hashlib.sha256(server.content).hexdigest()
    server.content = server.content[:-1] + b"!"
    wrong = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(InputError, match=f"SHA-256 is {wrong}, not {right}; try again") as caught:
        fetch()
    assert "\n" not in str(caught.value)
    assert not target.exists()
    assert not part.exists()


def test_a_truncated_file_on_the_server_is_refused_before_a_byte_is_kept(fetch, server, target):
    size = len(server.content)
    server.content = server.content[:-500]
    with pytest.raises(InputError, match=f"the server sends {size - 500} bytes, not {size}"):
        fetch()
    assert not target.exists()
    assert len(server.requests) == 1, "another attempt would give the same"


def test_a_login_page_in_place_of_the_file_keeps_the_bytes_downloaded_so_far(fetch, leave, server, part):
    leave(server.content[:4000])
    before, server.content, server.supports_ranges = server.content[:4000], b"<html>log in</html>", False
    with pytest.raises(InputError, match="the server sends 19 bytes"):
        fetch()
    assert part.read_bytes() == before


@pytest.mark.parametrize("length", ["9" * 5000, "9" * 30, "0", "00001"])
def test_a_length_that_cannot_be_that_of_the_file_is_refused_in_one_line(fetch, server, length):
    server.announced_length = length
    with pytest.raises(InputError) as caught:
        fetch()
    assert len(str(caught.value)) < 300
    assert server.requests == [None]


@pytest.mark.parametrize("exists", [True, False])
def test_a_partial_download_is_not_written_through_a_link(fetch, server, target, part, tmp_path, exists):
    target.parent.mkdir()
    other = tmp_path / "other"
    if exists:
        other.write_bytes(b"another file of the user")
    part.symlink_to(other)
    with pytest.raises(InputError, match=r"\.part cannot be written: not a regular file; use another folder"):
        fetch()
    assert not other.exists() or other.read_bytes() == b"another file of the user"
    assert not target.exists()


def test_a_pipe_in_place_of_a_partial_download_is_refused_instead_of_waited_for(fetch, target, part):
    target.parent.mkdir()
    os.mkfifo(part)
    with pytest.raises(InputError, match=r"\.part cannot be written: not a regular file"):
        fetch()


def test_an_endless_response_of_a_server_is_cut_off(fetch, server, part):
    size = len(server.content)
    server.sends_length, server.content = False, server.content + b"x" * 10**7
    with pytest.raises(InputError, match=rf"size is [\d,]+ bytes, not {size:,}") as caught:
        fetch()
    received = int(re.search(r"size is ([\d,]+)", str(caught.value))[1].replace(",", ""))
    assert received <= size + module._CHUNK
    assert not part.exists()


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (403, 1), (503, 3), (429, 3)])
def test_a_download_is_retried_only_after_transient_errors(status, attempts, fetch, server):
    server.answers = [status] * 9
    with pytest.raises(InputError, match=f"cifar-10-python.tar.gz: the server responded with {status} "):
        fetch()
    assert len(server.requests) == attempts


@pytest.mark.parametrize("scheme", ["file", "ftp"])
def test_a_redirection_to_another_protocol_is_not_followed(scheme, fetch, server, target, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    server.redirect = secret.as_uri() if scheme == "file" else "ftp://127.0.0.1/file"
    with pytest.raises(InputError):
        fetch()
    assert not target.exists()


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://host/file", "data:,x", "nonsense", ""])
def test_only_http_addresses_are_downloaded(address, fetch):
    with pytest.raises(InputError, match="is not an http or https address; fetch it by hand"):
        fetch(address)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/file", "http://"])
def test_the_error_for_an_unreachable_address_is_one_line_with_an_alternative(address, fetch):
    with pytest.raises(InputError, match="run the command again to resume, or fetch it by hand") as caught:
        fetch(address)
    assert str(caught.value).startswith(address)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_detected_before_the_download(fetch, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))
    with pytest.raises(InputError, match=r"MB are needed, 0\.0 MB are free; use another folder with data_dir"):
        fetch()


def test_the_error_for_a_download_folder_that_cannot_be_created_is_one_line(fetch, target):
    target.parent.write_text("a file where the folder should be")
    with pytest.raises(InputError, match="cannot be written: File exists; use another folder with data_dir"):
        fetch()


def test_a_disk_error_while_downloading_is_reported_in_one_line(fetch, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        fetch()


def test_a_second_download_waits_for_the_first_and_uses_its_file(fetch, server, target):
    target.parent.mkdir()
    first = FileLock(f"{target}.lock")
    first.acquire()
    waiting = threading.Event()
    second = threading.Thread(target=fetch, kwargs={"progress": lambda *args: waiting.set()})
    second.start()
    assert waiting.wait(60), "the second process reports that it waits"
    target.write_bytes(b"what the first fetched")
    first.release()
    second.join(60)
    assert not second.is_alive()
    assert server.requests == []
