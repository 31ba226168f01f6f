"""A real Chromium in front of a real server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from django.test import Client
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, sync_playwright
from pytest_django.live_server_helper import LiveServer

T = TypeVar("T")

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_COLLECT = """
  window.violations = [];
  document.addEventListener('securitypolicyviolation', (event) => {
    window.violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
  });
"""


class Chromium:
    """A browser in a thread of its own: in ours, the driver's event loop would block Django's
    database access."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1)
        self._running = ExitStack()
        self._browser = self.run(self._start)

    def _start(self) -> Browser:
        playwright = self._running.enter_context(sync_playwright())
        # Chromium has no sandbox for root, the user of CI; it opens only our own pages.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        return playwright.chromium.launch(executable_path=self._path, args=arguments)

    def run(self, act: Callable[[], T]) -> T:
        """Run ``act`` in the thread of the browser, the only one that may use its pages."""
        return self._thread.submit(act).result()

    def new_page(self) -> Page:
        """A page without cookies."""
        return self.run(lambda: self._browser.new_context().new_page())

    def close(self) -> None:
        self.run(self._browser.close)
        self.run(self._running.close)
        self._thread.shutdown()


@dataclass
class Visitor:
    """A page of the browser, and what went wrong on those that it has opened."""

    chromium: Chromium
    page: Page
    url: str
    dialogs: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def open(self, address: str, then: Callable[[Page], T]) -> T:
        """Open this address and return what ``then`` finds once the page has loaded."""
        return self.chromium.run(lambda: self._open(address, then))

    def _open(self, address: str, then: Callable[[Page], T]) -> T:
        answer = self.page.goto(self.url + address)
        assert answer is not None, address
        assert answer.status < 400, (address, answer.status)
        found = then(self.page)
        self.violations += self.page.evaluate("window.violations")
        return found

    def enter(self, client: Client) -> None:
        """Be logged in as ``client`` is."""
        session = client.cookies["sessionid"].value
        self.chromium.run(
            lambda: self.page.context.add_cookies([{"name": "sessionid", "value": session, "url": self.url}])
        )

    def listen(self) -> None:
        self.page.add_init_script(_COLLECT)
        self.page.on("dialog", self._dialog)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip(f"no Chromium on PATH ({', '.join(_NAMES)}); on Debian: apt-get install chromium")
    chromium = Chromium(path)
    yield chromium
    chromium.close()


@pytest.fixture
def visitor(chromium: Chromium, live_server: LiveServer) -> Iterator[Visitor]:
    visitor = Visitor(chromium, chromium.new_page(), live_server.url)
    chromium.run(visitor.listen)
    yield visitor
    chromium.run(visitor.page.context.close)
