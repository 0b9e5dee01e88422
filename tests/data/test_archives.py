"""Members are read by exact name, and an archive that could do harm is refused as a whole."""

import gzip
import io
import re
import tarfile

import pytest
import tiny_cifar

from resnet_cli.data.archives import read_members
from resnet_cli.errors import InputError

WANTED = {"folder/one": 1000, "folder/two": 1000}
GOOD = {"one": b"1" * 600, "two": b"2" * 1000}


def read(data, limits=WANTED):
    return dict(read_members(io.BytesIO(data), "a.tar.gz", limits))


def pack(*entries):
    """An archive of the good members and `entries`: (name, type, content or link target, fields …)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, content in [*((f"folder/{n}", tarfile.REGTYPE, d) for n, d in GOOD.items()), *entries]:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if isinstance(content, bytes):
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
            else:
                entry.linkname = content
                archive.addfile(entry)
    return buffer.getvalue()


def test_the_wanted_members_are_read_and_others_passed_over():
    expected = {f"folder/{name}": data for name, data in GOOD.items()}
    assert read(tiny_cifar.tar_gz(GOOD, "folder")) == expected
    assert read(pack(("folder/more", tarfile.REGTYPE, b"x" * 100_000))) == expected


HOSTILE = {
    "a name that climbs": pack(("../outside", tarfile.REGTYPE, b"x")),
    "a name that climbs later": pack(("folder/../../outside", tarfile.REGTYPE, b"x")),
    "a folder that climbs": pack(("folder/..", tarfile.DIRTYPE, b"")),
    "an absolute name": pack(("/outside", tarfile.REGTYPE, b"x")),
    "a name of another drive": pack(("C:outside", tarfile.REGTYPE, b"x")),
    "a name with backslashes": pack(("..\\outside", tarfile.REGTYPE, b"x")),
    "a symbolic link": pack(("folder/link", tarfile.SYMTYPE, "/etc/passwd")),
    "a hard link": pack(("folder/link", tarfile.LNKTYPE, "folder/one")),
    "a character device": pack(("folder/zero", tarfile.CHRTYPE, "")),
    "a block device": pack(("folder/disk", tarfile.BLKTYPE, "")),
    "a pipe": pack(("folder/pipe", tarfile.FIFOTYPE, "")),
    "a sparse file": pack(("folder/sparse", tarfile.GNUTYPE_SPARSE, "")),
    "a wanted member twice": pack(("folder/one", tarfile.REGTYPE, b"other")),
    "an unwanted member twice": pack(("readme", tarfile.REGTYPE, b"a"), ("readme", tarfile.REGTYPE, b"b")),
    "many members": pack(*((f"folder/{i}", tarfile.REGTYPE, b"") for i in range(100))),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_archive_is_refused_in_one_line_and_nothing_is_written(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^a\.tar\.gz is refused: member '") as caught:
        read(data)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_wanted_member_that_is_a_folder_is_refused():
    with pytest.raises(InputError, match=r"a\.tar\.gz is damaged: member folder/three is a folder"):
        read(pack(("folder/three", tarfile.DIRTYPE, b"")), WANTED | {"folder/three": 10})


def test_a_wanted_member_that_is_a_link_is_refused():
    with pytest.raises(InputError, match="'folder/three' is neither a regular file nor a folder"):
        read(pack(("folder/three", tarfile.SYMTYPE, "one")), WANTED | {"folder/three": 10})


def test_a_member_larger_than_it_can_be_is_refused():
    with pytest.raises(InputError, match="'folder/two' has 1,000 bytes, more than 999"):
        read(pack(), WANTED | {"folder/two": 999})


class CountingFile(io.BytesIO):
    """Counts what is read of the compressed bytes."""

    count = 0

    def read(self, size=-1):
        data = super().read(size)
        self.count += len(data)
        return data


def test_a_bomb_behind_the_members_is_not_decompressed_to_its_end():
    end = gzip.compress(b"\0" * 2**27, mtime=0)  # 128 MiB of nothing, as further gzip stream
    file = CountingFile(pack() + end)
    with pytest.raises(InputError, match="decompresses to more than 1,050,576 bytes"):
        dict(read_members(file, "a.tar.gz", WANTED))
    assert file.count < 2**16 < len(file.getvalue())


def test_a_bomb_in_a_member_that_nobody_wants_is_refused():
    with pytest.raises(InputError, match="'folder/bomb' has 16,777,216 bytes, more than 1,050,576"):
        read(pack(("folder/bomb", tarfile.REGTYPE, b"\0" * 2**24)))


def test_a_member_that_claims_an_absurd_size_is_refused():
    entry = tarfile.TarInfo("folder/absurd")
    entry.size = 2**60
    header = entry.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(InputError, match="more than 1,050,576"):
        read(gzip.compress(header + b"\0" * 4096, mtime=0))


def test_an_endless_comment_header_is_refused():
    entry = tarfile.TarInfo("comment")
    entry.type, entry.size = tarfile.XHDTYPE, 2**33
    with pytest.raises(InputError, match=r"a\.tar\.gz is (damaged|refused)"):
        read(gzip.compress(entry.tobuf(tarfile.GNU_FORMAT) + b"9" * 2**22))


def test_a_missing_member_is_named():
    with pytest.raises(InputError, match=r"a\.tar\.gz has no member folder/three; delete it and fetch it again"):
        read(pack(), WANTED | {"folder/three": 10})


@pytest.mark.parametrize("data", [b"", b"not gzip", gzip.compress(b"not tar", mtime=0), gzip.compress(b"", mtime=0)])
def test_what_is_no_archive_is_refused_in_one_line(data):
    with pytest.raises(InputError, match=r"^a\.tar\.gz (is damaged|has no member)"):
        read(data)


def test_every_truncation_is_refused():
    data = pack()
    for length in range(len(data)):
        with pytest.raises(InputError):
            read(data[:length])


def test_every_damaged_byte_is_refused_or_changes_nothing():
    """Gzip's checksum covers the content; its header's time and name mean nothing."""
    data, expected = pack(), read(pack())

    def outcome(position):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        try:
            return read(bytes(damaged))
        except InputError as error:
            return str(error)

    outcomes = [outcome(position) for position in range(len(data))]
    refusals = [message for message in outcomes if message != expected]
    assert all(re.match(r"a\.tar\.gz (is damaged|is refused|has no member)[^\n]+$", message) for message in refusals)
    assert len(refusals) > 0.9 * len(data)
