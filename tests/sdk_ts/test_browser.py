"""The built package in a browser: a page of another origin records and lists a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from playwright.sync_api import Page

from tests.browser.conftest import Chromium
from tests.processes import Site

_PAGE = "<!doctype html><meta charset=utf-8><title>A page</title><link rel=icon href='data:,'>"
_RECORD_AND_LIST = """
async ([baseUrl, apiKey]) => {
  const { TrajectoryClient } = await import("/dist/index.js");
  const client = new TrajectoryClient({ baseUrl, apiKey, maxRetries: 0 });
  try {
    const answer = await client.trajectories.run("Run in a page", { project: "browser", background: false }, async (run) => {
      run.skip("design", { reason: "small" });
      return run.phase("spec", { model: "small" }, async (phase) => {
        phase.usage({ input_tokens: 3, cost_usd: 0.1 });
        return "done";
      });
    });
    client.trajectories.enqueue({ request_summary: "In the background", project: "browser", phases: [] });
    const flushed = await client.queue.flush();
    const listed = [];
    for await (const record of client.trajectories.list({ project: "browser" })) listed.push(record);
    const exported = client.trajectories.exportJsonl({ project: "browser" });
    const text = await new Response(exported.stream()).text();
    return { answer, flushed, listed, lines: text.trimEnd().split("\\n").length, ...exported.exported };
  } catch (error) {
    return { error: error.name };
  }
}
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name in the base class
        pass


@contextmanager
def page_server(folder: Path) -> Iterator[str]:
    """Serve a page and the built modules, and give the origin of the server."""
    (folder / "page.html").write_text(_PAGE)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def record_and_list(page: Page, origin: str, url: str, key: str) -> Any:
    page.goto(f"{origin}/page.html")
    return page.evaluate(_RECORD_AND_LIST, [url, key])


def test_only_a_page_of_an_allowed_origin_can_record_and_list_runs(
    sdk_page: Path, store: Site, chromium: Chromium
) -> None:
    with page_server(sdk_page) as origin, page_server(sdk_page) as stranger:
        web = store.web(CORS_ALLOWED_ORIGINS=origin)
        page = chromium.new_page()
        found = chromium.run(partial(record_and_list, page, origin, web.url, store.api_key))
        refused = chromium.run(partial(record_and_list, page, stranger, web.url, store.api_key))
        chromium.run(page.context.close)
    assert refused == {"error": "APIConnectionError"}
    assert (found["answer"], found["flushed"]) == ("done", True)
    background, run = found["listed"]
    assert background["request_summary"] == "In the background"
    assert run["request_summary"] == "Run in a page"
    assert [phase.get("outcome") for phase in run["phases"]] == ["skipped", "success"]
    assert (run["total_cost_usd"], run["phases"][1]["input_tokens"]) == (0.1, 3)
    assert (found["count"], found["lines"]) == (2, 2)
