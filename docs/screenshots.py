"""Take the pictures of docs/images from a running quick start with sample runs.

    python manage.py quickstart --sample          # in another terminal
    python docs/screenshots.py                    # reads the login from quickstart.json of its data directory

Needs a Chromium on PATH. ``--only overview-dark`` takes one picture, ``--page NAME=ADDRESS``
another page.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, Page, sync_playwright

IMAGES = Path(__file__).parent / "images"
MAX_BYTES = 150_000
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Shot(NamedTuple):
    """One picture. ``height`` None is the whole page."""

    name: str
    address: str
    width: int = 1400
    height: int | None = 1000
    is_dark: bool = False


_RUNS = "/admin/trajectories/trajectory/"
SHOTS = (
    Shot("overview", f"{_RUNS}overview/"),
    Shot("overview-dark", f"{_RUNS}overview/", is_dark=True),
    Shot("overview-phone", f"{_RUNS}overview/", width=390, height=844),
    Shot("compare", f"{_RUNS}compare/?a_policy=router@1&b_policy=router@2"),
    Shot("compare-runs", "newest three", height=740),
    Shot("list", _RUNS, height=800),
    Shot("run", "newest", height=900),
    Shot("evaluate", f"{_RUNS}evaluate/?otherwise=anthropic/claude-sonnet-4&phase=implement", height=980),
)


def take(browser: Browser, shot: Shot, facts: dict[str, str]) -> None:
    """Save one picture.

    Raises:
        SystemExit: the picture has more than MAX_BYTES.
    """
    page = browser.new_page(
        viewport={"width": shot.width, "height": shot.height or 1000},
        color_scheme="dark" if shot.is_dark else "light",
    )
    page.goto(facts["url"] + "/admin/login/")
    page.fill("#id_username", facts["admin_user"])
    page.fill("#id_password", facts["admin_password"])
    page.click("[type=submit]")
    _open(page, facts["url"], shot.address)
    picture = page.screenshot(full_page=shot.height is None)
    page.close()
    if len(picture) > MAX_BYTES:
        raise SystemExit(f"{shot.name} has {len(picture):,} bytes, the limit is {MAX_BYTES:,}: make it smaller.")
    (IMAGES / f"{shot.name}.png").write_bytes(picture)
    print(f"{shot.name}.png: {len(picture):,} bytes")


def _open(page: Page, url: str, address: str) -> None:
    """Open an address, or as a person does: the newest run, or a comparison of the newest three."""
    if address.startswith("/"):
        page.goto(url + address)
        return
    page.goto(url + _RUNS)
    if address == "newest":
        page.click("#result_list tbody th a >> nth=0")
    else:
        for row in range(3):
            page.check(f"#result_list .action-select >> nth={row}")
        page.select_option("select[name=action]", "compare")
        page.click("#changelist button[name=index]")
    page.wait_for_load_state("networkidle")


def main() -> None:
    from trajectory_site import data_dir

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="of the quick start (default: as the quick start)")
    parser.add_argument("--only", action="append", choices=[shot.name for shot in SHOTS])
    parser.add_argument("--page", action="append", default=[], metavar="NAME=ADDRESS")
    arguments = parser.parse_args()
    facts = json.loads((data_dir.chosen(arguments.data_dir) / "quickstart.json").read_text())
    pages = [Shot(*given.split("=", 1)) for given in arguments.page]
    shots = pages or [shot for shot in SHOTS if not arguments.only or shot.name in arguments.only]
    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        parser.error(f"no Chromium on PATH ({', '.join(_BROWSERS)})")
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        for shot in shots:
            take(browser, shot, facts)


if __name__ == "__main__":
    main()
