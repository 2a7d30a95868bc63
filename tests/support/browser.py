"""Chromium in a container, by the DevTools protocol over docker exec's input and output. Runs docker."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final

from tests.support.engine import Container, Engine, File, Network
from tests.support.wait import WaitError, wait_until

BROWSER_IMAGE: Final = "authrelay-peer-browser:dev"
READER_IMAGE: Final = "authrelay-peer-reader:dev"
"""The one that a CA can be imported into."""
_AXE: Final = "/opt/checkers/axe.min.js"
_VALIDATOR: Final = "/opt/checkers/vnu.jar"
_TIMEOUT_SECONDS: Final = 30.0
# The protocol's pipe is file descriptors 3 (to the browser) and 4 (from it).
_COMMAND: Final = (
    "exec chromium-headless-shell --headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync --disable-dev-shm-usage "
    "--hide-scrollbars --disable-lcd-text --font-render-hinting=none --user-data-dir=$(mktemp -d) "
    "--remote-debugging-pipe 3<&0 4>&1 >&2"
)


class BrowserError(AssertionError):
    """The browser did not do what it was asked."""


class Browser:
    """One Chromium; a context manager that ends it."""

    def __init__(
        self, engine: Engine, network: Network | None = None, *, image: str = BROWSER_IMAGE, authority_pem: str = ""
    ) -> None:
        self.container: Container = engine.run(image, kind="browser", network=network)
        if authority_pem:
            trust = ("certutil", "-d", "sql:/root/.pki/nssdb", "-A", "-n", "imported", "-t", "C,,")
            self.container.exec(trust, stdin=authority_pem.encode())
        program = os.environ.get("DOCKER", "docker")
        command = (program, "exec", "--interactive", self.container.name, "sh", "-c", _COMMAND)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._received = b""
        self._number = 0
        self.handlers: list[Callable[[str, dict[str, Any]], None]] = []
        self.axe = self.container.read(_AXE).decode()

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self.container.remove()

    def open_page(self) -> Page:
        """Return a new, empty page with a profile of its own."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", {"url": "about:blank", "browserContextId": context})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        return Page(self, session)

    def call(self, method: str, parameters: Mapping[str, Any] | None = None, session: str = "") -> dict[str, Any]:
        """Return the answer to one command; what happens meanwhile goes to the handlers."""
        self.send(method, parameters, session)
        number = self._number
        ends_at = time.monotonic() + _TIMEOUT_SECONDS
        while True:
            message = self._receive(ends_at)
            if message.get("id") != number:
                self._hand_over(message)
            elif "error" in message:
                raise BrowserError(f"{method}: {message['error']['message']}")
            else:
                return dict(message["result"])

    def send(self, method: str, parameters: Mapping[str, Any] | None = None, session: str = "") -> None:
        """Give a command without waiting for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": dict(parameters or {})}
        if session:
            message["sessionId"] = session
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        self._process.stdin.flush()

    def validate(self, pages: Mapping[str, str]) -> list[str]:
        """Return what the Nu HTML Checker says of documents by name, and of the CSS in them; nothing is good."""
        self.container.put({f"/tmp/pages/{name}.html": File(data=html.encode()) for name, html in pages.items()})
        command = ["java", "-jar", _VALIDATOR, "--format", "json", "--exit-zero-always", "/tmp/pages"]
        report = json.loads(self.container.exec(command).stderr)
        return [f"{one['type']}: {one['message']} ({one.get('extract', '')})" for one in report["messages"]]

    def _hand_over(self, message: dict[str, Any]) -> None:
        if "method" in message:
            for handler in list(self.handlers):
                handler(message["method"], {**message["params"], "sessionId": message.get("sessionId", "")})

    def _receive(self, ends_at: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\0" not in self._received:
            readable, _, _ = select.select([self._process.stdout], [], [], max(0.0, ends_at - time.monotonic()))
            received = os.read(self._process.stdout.fileno(), 2**20) if readable else b""
            if not received:
                raise BrowserError("the browser does not answer")
            self._received += received
        one, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(one)
        return message


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.complaints: list[str] = []
        """What the browser's console has: refusals by the policy, failed requests, exceptions."""
        self._asked: dict[str, str] = {}
        self._served: tuple[str, str] | None = None
        browser.handlers.append(self._note)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    @property
    def requests(self) -> list[str]:
        """Every address that was asked for, but for what the page's policy held back."""
        return list(self._asked.values())

    def serve(self, html: str, policy: str) -> None:
        """Answer every request of the page with this document from now on, without any server."""
        if self._served is None:
            self._call("Fetch.enable", {"patterns": [{"urlPattern": "*"}]})
        self._served = html, policy

    def break_server(self) -> None:
        """Let every request fail from now on, as when the relay is gone."""
        self._served = "", ""

    def visit(self, address: str = "http://relay.test/") -> None:
        """Load an address, and wait until all of it is there; a server may be about to start."""

        def is_there() -> bool:
            return "errorText" not in self._call("Page.navigate", {"url": address})

        wait_until(is_there, 20, f"{address} should load")
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def submit(self, form: str, **fields: str | bool) -> None:
        """Fill in the fields of a form (a CSS selector) by name, send it by its own button, and wait for what comes.

        A text is typed or chosen; a truth is whether a box is ticked.
        """
        script = f"""(() => {{
            const form = document.querySelector({json.dumps(form)}), fields = {json.dumps(fields)};
            for (const [name, value] of Object.entries(fields)) {{
                const all = [...form.querySelectorAll(`[name="${{name}}"]`)];
                if (!all.length) throw new Error(`the form has no ${{name}}`);
                if (typeof value === "boolean") all[0].checked = value;
                else if (all[0].type === "radio") all.find(one => one.value === value).checked = true;
                else all[0].value = value;
            }}
            window.isOld = true;
            const button = form.querySelector("[type=submit], button:not([type=button])");
            setTimeout(() => form.requestSubmit(button), 0);
        }})()"""
        self.evaluate(script)
        self.wait_for("window.isOld === undefined && document.readyState === 'complete'")

    @property
    def text(self) -> str:
        """What a person reads."""
        return str(self.evaluate("document.body.innerText"))

    @property
    def address(self) -> str:
        """Where it is."""
        return str(self.evaluate("location.href"))

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; a promise is awaited."""
        parameters = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self._call("Runtime.evaluate", parameters)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression[:200]}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression: str, timeout_seconds: float = 20) -> None:
        """Wait until an expression is true; raise BrowserError otherwise."""

        def is_true() -> bool:
            with contextlib.suppress(BrowserError):  # between two documents
                return bool(self.evaluate(expression))
            return False

        try:
            wait_until(is_true, timeout_seconds, expression)
        except WaitError as error:
            raise BrowserError(f"{error}; the page: {self.evaluate('document.body.innerText')}") from error

    def look(self, *, is_dark: bool = False, width: int = 1200, height: int = 900) -> None:
        """Be a screen of this width in CSS pixels, light or dark; a narrow one is a phone."""
        is_phone = width < 500
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone}
        self._call("Emulation.setDeviceMetricsOverride", metrics)
        scheme = "dark" if is_dark else "light"
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self._call("Emulation.setEmulatedMedia", {"features": features})

    def switch_off_scripts(self) -> None:
        """Be a browser without JavaScript."""
        self._call("Emulation.setScriptExecutionDisabled", {"value": True})

    def press(self, key: str, code: int) -> None:
        """Press and release a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code})

    def take_picture(self, height: int | None = None) -> bytes:
        """Return the page as PNG: all of it, or its first so many pixels."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {
            "x": 0,
            "y": 0,
            "width": size["width"],
            "height": min(height or size["height"], size["height"]),
            "scale": 1,
        }
        parameters = {"format": "png", "clip": clip, "captureBeyondViewport": True}
        return base64.b64decode(self._call("Page.captureScreenshot", parameters)["data"])

    def find_barriers(self) -> list[str]:
        """Return what axe finds against WCAG and its own best practices, with the impact first."""
        self.evaluate(f"{self._browser.axe}; true")
        found = self.evaluate("axe.run().then(result => result.violations)")
        return [
            f"{one['impact']}: {one['id']}: {one['help']}: {node['html'][:200]} {node.get('failureSummary', '')}"
            for one in found
            for node in one["nodes"]
        ]

    def _call(self, method: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self._browser.call(method, parameters, self._session)

    def _note(self, method: str, values: dict[str, Any]) -> None:
        if values["sessionId"] != self._session:
            return
        if method == "Log.entryAdded":
            self.complaints.append(f"{values['entry']['source']}: {values['entry']['text']}")
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(f"exception: {values['exceptionDetails']}")
        elif method == "Network.requestWillBeSent":
            self._asked[values["requestId"]] = values["request"]["url"]
        elif method == "Network.loadingFailed" and values.get("blockedReason") == "csp":
            self._asked.pop(values["requestId"], None)
        elif method == "Fetch.requestPaused":
            self._answer(values["requestId"])

    def _answer(self, request: str) -> None:
        assert self._served is not None
        html, policy = self._served
        if not html:
            failure = {"requestId": request, "errorReason": "ConnectionRefused"}
            self._browser.send("Fetch.failRequest", failure, self._session)
            return
        headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy}
        answer = {
            "requestId": request,
            "responseCode": 200,
            "responseHeaders": [{"name": name, "value": value} for name, value in headers.items()],
            "body": base64.b64encode(html.encode()).decode(),
        }
        self._browser.send("Fetch.fulfillRequest", answer, self._session)
