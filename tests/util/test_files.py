"""Atomic writing, durable appending and temporary files."""

import os
import stat
from pathlib import Path

import pytest

from resnet_cli.errors import RunFileError
from resnet_cli.util.files import append_durably, read_bytes, sync_folder, temporary_files, write_atomic, write_output


@pytest.fixture
def path(tmp_path):
    """A file with an old content, alone in its folder."""
    path = tmp_path / "summary.json"
    path.write_bytes(b"old")
    return path


@pytest.fixture
def umask():
    """Set the process's umask; restored afterwards."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def failing(error):
    def fail(*_):
        raise error

    return fail


class TestWriteAtomic:
    @pytest.mark.parametrize("data", [b"", b"new", bytes(range(256)) * 5000])
    def test_an_atomic_write_creates_or_replaces_the_file(self, path, data):
        for name in ("summary.json", "new.json"):
            write_atomic(path.with_name(name), data)
            assert path.with_name(name).read_bytes() == data
        assert sorted(os.listdir(path.parent)) == ["new.json", "summary.json"]

    @pytest.mark.parametrize("step", ["fsync", "replace", "fchmod"])
    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
    def test_a_failed_atomic_write_leaves_the_old_content_and_no_temporary_file(self, path, monkeypatch, step, error):
        monkeypatch.setattr(os, step, failing(error))
        with pytest.raises(type(error)) as caught:
            write_atomic(path, b"new")
        assert getattr(caught.value, "filename", str(path)) == str(path)  # not that of the temporary file
        assert path.read_bytes() == b"old"
        assert os.listdir(path.parent) == ["summary.json"]

    def test_a_failed_atomic_write_is_reported_even_if_its_temporary_file_is_gone(self, path, monkeypatch):
        def replace(temporary, _):
            os.unlink(temporary)
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "replace", replace)
        with pytest.raises(OSError, match="Input/output error"):
            write_atomic(path, b"new")

    def test_an_atomic_write_syncs_the_content_before_it_replaces_the_file(self, path, monkeypatch):
        order = []
        fsync, replace = os.fsync, os.replace

        def recorded_fsync(descriptor):
            is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            order.append("fsync folder" if is_folder else f"fsync {os.fstat(descriptor).st_size} bytes")
            fsync(descriptor)

        def recorded_replace(*names):
            order.append("replace")
            replace(*names)

        monkeypatch.setattr(os, "fsync", recorded_fsync)
        monkeypatch.setattr(os, "replace", recorded_replace)
        write_atomic(path, b"new content")
        assert order == ["fsync 11 bytes", "replace", "fsync folder"]

    @pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
    def test_written_files_have_the_permissions_of_the_umask_which_stays_unchanged(self, path, umask, mask, mode):
        umask(mask)
        write_atomic(path, b"new")
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert umask(mask) == mask

    def test_the_error_for_writing_into_a_missing_folder_names_the_file(self, tmp_path):
        path = tmp_path / "missing" / "run.json"
        for write in (write_atomic, append_durably):
            with pytest.raises(FileNotFoundError) as caught:
                write(path, b"{}")
            assert caught.value.filename == str(path)


class TestAppendDurably:
    def test_appended_data_are_on_the_disk_when_the_call_returns(self, path, monkeypatch):
        synced = []
        monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
        append_durably(path, b"+1\n")
        append_durably(path, b"+2\n")
        assert path.read_bytes() == b"old+1\n+2\n"
        assert synced == [6, 9]

    def test_the_error_for_a_failed_sync_names_the_file(self, path, monkeypatch):
        monkeypatch.setattr(os, "fsync", failing(OSError(5, "Input/output error")))
        with pytest.raises(OSError, match="Input/output error") as caught:
            append_durably(path, b"+1")
        assert caught.value.filename == str(path)


def test_a_file_with_more_bytes_than_its_size_is_not_read_beyond_the_limit(path, monkeypatch):
    monkeypatch.setattr("resnet_cli.util.files.Path.stat", lambda _: os.stat_result((stat.S_IFREG, *[0] * 9)))
    assert read_bytes(path, 3) == b"old"
    with pytest.raises(RunFileError, match="is larger than"):
        read_bytes(path, 2)


class TestFolders:
    def test_a_folder_is_closed_after_a_failed_sync(self, tmp_path, monkeypatch):
        opened = []
        monkeypatch.setattr(os, "fsync", lambda descriptor: opened.append(descriptor) or failing(OSError(5, "io"))())
        with pytest.raises(OSError, match="io"):
            sync_folder(tmp_path)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(opened[0])

    def test_folders_are_not_synced_on_windows(self, tmp_path, monkeypatch):
        opened = []
        with monkeypatch.context() as patch:
            patch.setattr(os, "name", "nt")
            patch.setattr(os, "open", lambda *arguments: opened.append(arguments))
            sync_folder(tmp_path)
        assert opened == []

    def test_temporary_files_of_interrupted_writes_are_found_and_no_others(self, path, monkeypatch):
        (path.parent / "notes.tmp").write_text("mine")
        (path.parent / ".hidden").write_text("mine")
        with monkeypatch.context() as patch:  # the process dies before it can remove the temporary file
            patch.setattr(os, "replace", failing(KeyboardInterrupt()))
            patch.setattr(os, "unlink", lambda _: None)
            with pytest.raises(KeyboardInterrupt):
                write_atomic(path, b"new")
        (left,) = temporary_files(path.parent)
        assert left.read_bytes() == b"new"
        assert left.name.startswith(".summary.json.")


@pytest.mark.parametrize("target", ["summary.json", "missing.json"])
def test_an_output_is_written_through_a_link_which_stays_a_link(path, target):
    link = path.with_name("link.json")
    link.symlink_to(target)
    write_output(link, b"new")
    assert link.is_symlink()
    assert path.with_name(target).read_bytes() == b"new"


def test_an_output_is_written_into_a_pipe_and_does_not_replace_it(path):
    pipe = path.with_name("pipe")
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_output(pipe, b"new")
    assert os.read(reading, 100) == b"new"
    os.close(reading)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_full_device_is_an_error_that_names_it():
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        write_output(Path("/dev/full"), b"new")
