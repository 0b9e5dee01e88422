"""A download is resumed where it broke off, bounded, and verified before the file gets its name."""

import errno
import hashlib
import shutil
import threading
from collections import namedtuple

import pytest
from filelock import FileLock

from resnet_cli.data import download as module
from resnet_cli.data.download import download
from resnet_cli.errors import InputError

HINT = "fetch it by hand"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "new" / "data.tar.gz"


@pytest.fixture
def fetch(server, target):
    """Downloads what the server ought to have."""
    wanted = {"size": len(server.content), "sha256": hashlib.sha256(server.content).hexdigest(), "hint": HINT}
    return lambda url=server.url, **other: download(url, target, **(wanted | other))


def part_of(target):
    return target.with_name(target.name + ".part")


def leave_part(target, data):
    target.parent.mkdir()
    part_of(target).write_bytes(data)


def test_a_right_file_arrives_whole_and_leaves_no_part(fetch, server, target):
    fetch()
    assert target.read_bytes() == server.content
    assert not part_of(target).exists()
    assert server.requests == [None]


def test_progress_counts_bytes_up_to_the_size(fetch, server, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 1000)
    seen = []
    fetch(progress=lambda label, done, total, unit="": seen.append((label, done, total, unit)))
    labels, done, totals, units = (set(column) for column in zip(*seen, strict=True))
    assert (labels, totals, units) == ({"downloading data.tar.gz"}, {len(server.content)}, {"bytes"})
    assert [row[1] for row in seen] == sorted(done)
    assert {0, 1000, len(server.content)} <= done


def test_a_present_file_is_not_fetched_again(fetch, server, target):
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


def test_a_server_that_falls_silent_is_left_and_asked_for_the_rest(fetch, server, target, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.1)
    server.cut_after, server.pause_seconds = [5000], 0.3
    fetch()
    assert target.read_bytes() == server.content
    assert server.requests == [None, "bytes=5000-"]


def test_a_later_call_resumes_what_an_earlier_one_left(fetch, server, target, monkeypatch):
    monkeypatch.setattr(module, "BACKOFF_SECONDS", ())
    server.cut_after = [6000]
    with pytest.raises(
        InputError, match=r"connection was lost after 6,000 of .* run it again to resume, or fetch it by"
    ):
        fetch()
    assert part_of(target).stat().st_size == 6000
    assert not target.exists()
    fetch()
    assert target.read_bytes() == server.content
    assert server.sent == [6000, len(server.content) - 6000]


def test_ctrl_c_keeps_what_has_arrived(fetch, server, target, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 1000)

    def stop(label, done, total, unit=""):
        if done >= 3000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(progress=stop)
    assert part_of(target).read_bytes() == server.content[:3000]
    fetch()
    assert target.read_bytes() == server.content
    assert server.requests == [None, "bytes=3000-"]


def test_a_server_that_ignores_ranges_is_read_from_the_start(fetch, server, target):
    server.knows_ranges = False
    leave_part(target, server.content[:4000])
    fetch()
    assert target.read_bytes() == server.content
    assert server.sent == [len(server.content)]


def test_a_server_that_resumes_in_the_wrong_place_is_asked_for_everything(fetch, server, target):
    server.shift = 10
    leave_part(target, server.content[:4000])
    fetch()
    assert target.read_bytes() == server.content
    assert server.requests == ["bytes=4000-", None]


def test_a_server_that_refuses_the_range_is_asked_for_everything(fetch, server, target):
    leave_part(target, server.content[:4000])
    server.answers = [416]
    fetch()
    assert target.read_bytes() == server.content
    assert server.requests == ["bytes=4000-", None]


def test_a_complete_part_needs_no_network(fetch, server, target):
    leave_part(target, server.content)
    fetch()
    assert target.read_bytes() == server.content
    assert server.requests == []


def test_a_part_that_is_too_long_is_started_again(fetch, server, target):
    leave_part(target, server.content + b"more")
    fetch()
    assert target.read_bytes() == server.content
    assert server.requests == [None]


def test_a_server_that_does_not_tell_the_length_is_read_to_its_end(fetch, server, target):
    server.tells_length = False
    fetch()
    assert target.read_bytes() == server.content


def test_a_wrong_checksum_is_refused_with_both_sums_and_leaves_nothing(fetch, server, target):
    right = hashlib.sha256(server.content).hexdigest()
    server.content = server.content[:-1] + b"!"
    wrong = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(InputError, match=f"SHA-256 is {wrong}, not {right}; run it again") as caught:
        fetch()
    assert "\n" not in str(caught.value)
    assert not target.exists()
    assert not part_of(target).exists()


def test_a_truncated_file_on_the_server_is_refused_before_a_byte_is_kept(fetch, server, target):
    size = len(server.content)
    server.content = server.content[:-500]
    with pytest.raises(InputError, match=f"the server has {size - 500:,} bytes, not {size:,}"):
        fetch()
    assert not target.exists()
    assert len(server.requests) == 1, "the next attempt would give the same"


def test_a_page_in_place_of_the_file_does_not_cost_what_had_arrived(fetch, server, target):
    """A hotel's login page answers 200 to everything."""
    leave_part(target, server.content[:4000])
    part, server.content, server.knows_ranges = server.content[:4000], b"<html>log in</html>", False
    with pytest.raises(InputError, match="the server has 19 bytes"):
        fetch()
    assert part_of(target).read_bytes() == part


def test_a_server_that_never_ends_is_cut_off(fetch, server, target):
    size = len(server.content)
    server.tells_length, server.content = False, server.content + b"x" * 10**7
    with pytest.raises(InputError, match=f"the server sends more than {size:,} bytes"):
        fetch()
    assert not part_of(target).exists()


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (403, 1), (503, 3), (429, 3)])
def test_only_errors_that_may_pass_are_tried_again(status, attempts, fetch, server):
    server.answers = [status] * 9
    with pytest.raises(InputError, match=f"cifar-10-python.tar.gz: the server answers {status} "):
        fetch()
    assert len(server.requests) == attempts


def test_a_busy_server_is_asked_again(fetch, server, target):
    server.answers = [503, 500]
    fetch()
    assert target.read_bytes() == server.content


def test_a_redirection_to_another_protocol_is_not_followed(fetch, server, target, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for address in (secret.as_uri(), "ftp://127.0.0.1/file"):
        server.redirect = address
        with pytest.raises(InputError):
            fetch()
    assert not target.exists()


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://host/file", "data:,x", "nonsense", ""])
def test_only_http_addresses_are_fetched(address, fetch):
    with pytest.raises(InputError, match="is not an http or https address; fetch it by hand"):
        fetch(address)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/file", "http://"])
def test_no_network_gives_one_line_with_the_way_round_it(address, fetch):
    with pytest.raises(InputError, match="run it again to resume, or fetch it by hand") as caught:
        fetch(address)
    assert str(caught.value).startswith(address)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_noticed_before_the_download(fetch, server, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))
    with pytest.raises(InputError, match=r"MB are needed, 0\.0 MB are free; use another folder with --data-dir"):
        fetch()


def test_a_folder_that_cannot_be_written_gives_one_line(fetch, target):
    target.parent.write_text("a file where the folder should be")
    with pytest.raises(InputError, match="cannot be written: File exists; use another folder with --data-dir"):
        fetch()


def test_an_error_of_the_disk_while_writing_gives_one_line(fetch, monkeypatch):
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
    assert waiting.wait(10), "the second says that it waits"
    target.write_bytes(b"what the first fetched")
    first.release()
    second.join(10)
    assert not second.is_alive()
    assert server.requests == []
