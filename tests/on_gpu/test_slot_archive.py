"""The runs of a slot survive in a few small files."""

from pathlib import Path

import pytest
from slot_modules import module


class TestArchive:
    @pytest.fixture
    def work(self, tmp_path):
        """A complete and a started run, with files of a few bytes."""
        work = tmp_path / "work"
        for run, extra in (("complete", ["summary.json", "predictions.npz"]), ("started", [])):
            names = ["run.json", "metrics.csv", ".lock", "checkpoints/resume.safetensors", "weights/best.safetensors"]
            for name in [*names, "weights/last.safetensors", *extra]:
                path = work / "runs" / run / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(f"{run} {name}".encode() * 50)
        (work / "logs").mkdir()
        (work / "logs" / "a.txt").write_text("log", encoding="utf-8")
        return work

    def pack(self, work, out, **options):
        out.mkdir(exist_ok=True)
        return module("gpu.archive").pack(work, out, None, **options)

    def restored(self, out, description, folder):
        module("gpu.archive").unpack(out, description, folder)
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    def test_a_started_run_keeps_what_resumes_it_and_a_complete_one_its_results(self, work, tmp_path):
        packed = self.pack(work, tmp_path / "out")
        found = self.restored(tmp_path / "out", packed.description, tmp_path / "again")
        assert found == {
            "logs/a.txt", "runs/complete/metrics.csv", "runs/complete/predictions.npz", "runs/complete/run.json",
            "runs/complete/summary.json", "runs/complete/weights/last.safetensors",
            "runs/started/checkpoints/resume.safetensors", "runs/started/metrics.csv", "runs/started/run.json",
            "runs/started/weights/best.safetensors",
        }  # fmt: skip
        for name in found:
            assert (tmp_path / "again" / name).read_bytes() == (work / name).read_bytes()

    def test_empty_folders_are_restored_too(self, work, tmp_path):
        for path in (work / "runs" / "started" / "weights").iterdir():
            path.unlink()
        self.restored(tmp_path / "out", self.pack(work, tmp_path / "out").description, tmp_path / "again")
        assert (tmp_path / "again" / "runs" / "started" / "weights").is_dir()

    def test_parts_are_no_larger_than_asked_and_join_to_the_same_files(self, work, tmp_path):
        packed = self.pack(work, tmp_path / "out", part_bytes=4000)
        sizes = [path.stat().st_size for path in (tmp_path / "out").iterdir()]
        assert len(sizes) > 2
        assert max(sizes) == 4000
        assert len(self.restored(tmp_path / "out", packed.description, tmp_path / "again")) == 10

    def test_only_weights_of_complete_runs_are_omitted_where_space_is_short(self, work, tmp_path):
        packed = self.pack(work, tmp_path / "out", max_bytes=1)
        assert packed.omitted == ["runs/complete/weights/last.safetensors"]
        assert len(self.restored(tmp_path / "out", packed.description, tmp_path / "again")) == 9

    def test_a_new_archive_replaces_the_old_one_only_when_asked(self, work, tmp_path):
        archive, out = module("gpu.archive"), tmp_path / "out"
        first = self.pack(work, out).description
        second = archive.pack(work, out, first).description
        archive.unpack(out, first, tmp_path / "again")
        archive.remove_others(out, second)
        assert [path.name for path in out.iterdir()] == ["work-2.tar.00"]

    @pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"other")])
    def test_a_missing_or_damaged_part_is_refused(self, work, tmp_path, damage):
        description = self.pack(work, tmp_path / "out").description
        damage(tmp_path / "out" / "work-1.tar.00")
        with pytest.raises(module("gpu.results").DamagedError, match=r"work-1\.tar\.00 is missing or damaged"):
            module("gpu.archive").unpack(tmp_path / "out", description, tmp_path / "again")
