"""A headless Chromium that tests control through the DevTools protocol, with the standard library alone.

https://chromedevtools.github.io/devtools-protocol/
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip
# Chromium reads commands from descriptor 3 and writes to descriptor 4.
_CONNECT = 'read=$1 write=$2; shift 2; exec "$@" 3<&$read 4>&$write'


class Browser:
    """One browser with one page.

    Args:
        profile: empty folder for its profile.
    """

    def __init__(self, profile: Path) -> None:
        assert PROGRAM
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        descriptors = (theirs_in, theirs_out)
        command = (PROGRAM, *_OPTIONS, f"--user-data-dir={profile}", "about:blank")
        self._process = subprocess.Popen(
            ["bash", "-c", _CONNECT, "bash", *map(str, descriptors), *command], pass_fds=descriptors,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for descriptor in descriptors:
            os.close(descriptor)
        self._in, self._out = os.fdopen(ours_in, "rb"), os.fdopen(ours_out, "wb")
        self._received = b""
        self._session: dict[str, Any] = {}
        self._number = 0
        self.events: list[tuple[str, dict[str, Any]]] = []
        """Name and parameters of everything that happened since the page was opened."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **self._session}
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while (answer := self._receive()).get("id") != self._number:
            pass
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, path: Path, width: int = 1280) -> None:
        """Open a file in a window of `width` CSS pixels and wait until it is loaded and laid out."""
        self.resize(width)
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(name == "Page.loadEventFired" for name, _ in self.events):
            self._receive()
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def resize(self, width: int) -> None:
        """Change the width of the window."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page; the page's own policy does not apply to it."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    @property
    def complaints(self) -> list[dict[str, Any]]:
        """Messages on the console, exceptions and dialogs."""
        names = (
            "Log.entryAdded",
            "Runtime.consoleAPICalled",
            "Runtime.exceptionThrown",
            "Page.javascriptDialogOpening",
        )
        return [parameters for name, parameters in self.events if name in names]

    @property
    def requests(self) -> list[str]:
        """Addresses that the page requested, without data in the page itself."""
        sent = (parameters for name, parameters in self.events if name == "Network.requestWillBeSent")
        return [url for one in sent if not (url := one["request"]["url"]).startswith("data:")]

    def close(self) -> None:
        """End the browser."""
        self._session = {}
        self.call("Browser.close")
        self._process.wait(60)
        self._in.close()
        self._out.close()

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._read())
        if "method" in message:
            self.events.append((message["method"], message["params"]))
        return message

    def _read(self) -> bytes:
        """The next message; messages end with NUL and may contain an image of a megabyte."""
        while b"\0" not in self._received:
            part = self._in.read1()
            assert part, "Chromium ended"
            self._received += part
        message, _, self._received = self._received.partition(b"\0")
        return message
