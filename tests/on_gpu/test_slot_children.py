"""Steps run in processes of their own, and leave none behind."""

import os
import textwrap
import time
from pathlib import Path

from slot_modules import module


class TestChildren:
    def run(self, tmp_path, body, *, limit=20.0, is_stopped=lambda: False):
        (tmp_path / "child.py").write_text(textwrap.dedent(body), encoding="utf-8")
        values = []
        ending = module("gpu.children").run(
            [str(tmp_path / "child.py")], environment=dict(os.environ), log=tmp_path / "log", limit_seconds=limit,
            is_stopped=is_stopped, on_value=values.append,
        )  # fmt: skip
        return ending, values

    def test_lines_that_are_no_json_objects_are_ignored(self, tmp_path):
        ending, values = self.run(tmp_path, "print('text'); print(1); print('{\"a\": 1}'); print('{\"b\"')")
        assert (ending.state, values) == ("done", [{"a": 1}])

    def test_a_process_over_its_limit_is_stopped(self, tmp_path):
        ending, _ = self.run(tmp_path, "import time; time.sleep(60)", limit=0.5)
        assert (ending.state, ending.reason) == ("slow", "took longer than 0 s")

    def test_processes_that_ignore_sigterm_end_with_their_children(self, tmp_path, monkeypatch):
        children = module("gpu.children")
        monkeypatch.setattr(children.stop, "__defaults__", (0.3,))
        body = """
            import signal, subprocess, sys, time
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            print('{"pid": %d}' % child.pid, flush=True)
            open(READY, "w").close()
            time.sleep(60)
        """
        ready = tmp_path / "ready"
        _, values = self.run(tmp_path, body.replace("READY", repr(str(ready))), is_stopped=ready.exists)
        stat = Path(f"/proc/{values[0]['pid']}/stat")

        def is_running():
            # a zombie has ended, but its new parent has not collected it yet
            return stat.exists() and stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"

        deadline = time.monotonic() + 30
        while is_running() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_running(), "the child of the process is still running"
