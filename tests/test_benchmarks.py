"""The report of the benchmarks: rows, tables, JSON, plots and pages. The benchmarks themselves do
not run."""

from __future__ import annotations

import re
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import pages, plots, report
from benchmarks.load import Target, send
from benchmarks.report import Measurement, Report, Row, at_least, at_most

ROWS = (
    Row("POST, p99", 12.345, "ms", at_most(20), "a view", 4.0, "p99"),
    Row("runs acknowledged", 1_234.5, "/s", at_least(1_800), "a view", 2_000.0, "rate"),
    Row("CPU of a run", 1.5, "ms", at_most(0.9, of_anchor=True), "a view", 2.0),
    Row("first read", 3.0, "ms"),
    *(Row("list", x / 1_000, "ms", None, "nothing", 1.0, "", "records", "list", x) for x in (1_000, 100_000)),
)


def _report() -> Report:
    found = Report(
        "2026-11-27 12:00 UTC", {"cpu": "x", "cpus": "2", "memory_gb": "8"}, {"python": "3.11", "django": "6"}
    )
    found.measurements.append(Measurement("uv run python -m benchmarks.some", 1.5, (0.25, 2.0), ROWS))
    return found


def test_a_table_has_aim_verdict_and_ratio_to_the_anchor() -> None:
    lines = report.table(ROWS).splitlines()
    assert lines[2] == "| POST, p99 | 12.3 ms | ≤ 20 | met | a view 4 ms, ratio 3.09 |"
    assert lines[3] == "| runs acknowledged | 1,234 /s | ≥ 1,800 | **not met** | a view 2,000 /s, ratio 0.62 |"
    assert lines[4] == "| CPU of a run | 1.50 ms | ≤ 0.90 × anchor | met | a view 2 ms, ratio 0.75 |"  # noqa: RUF001
    assert report.table([ROWS[3]]).splitlines()[0] == "| | measured | anchor of the same run |"


def test_an_aim_of_the_anchor_needs_an_anchor() -> None:
    with pytest.raises(ValueError, match="needs an anchor"):
        assert replace(ROWS[2], anchor_value=None).verdict


def test_a_report_is_the_same_after_a_file(tmp_path: Path) -> None:
    _report().write(tmp_path / "report.json")
    assert Report.read(tmp_path / "report.json") == _report()


def test_the_conditions_name_date_machine_versions_and_the_range_of_the_load() -> None:
    assert _report().conditions == ("2026-11-27 12:00 UTC; 2 cores (x), 8 GB; Python 3.11, Django 6; load 0.25 to 2.")


def test_text_between_markers_is_replaced_and_the_rest_kept() -> None:
    text = "before <!-- figures: a --> old <!-- end: a --> after"
    once = report.replaced(text, "a", "new")
    assert once == "before <!-- figures: a -->\nnew\n<!-- end: a --> after"
    assert report.replaced(once, "a", "new") == once


@pytest.mark.parametrize("text", ["", "<!-- figures: a -->", "<!-- end: a --><!-- figures: a -->"])
def test_a_page_without_its_markers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="figures: a"):
        report.replaced(text, "a", "new")


def test_a_plot_is_an_svg_with_a_line_for_each_series_and_anchor() -> None:
    drawn = plots.plot(row for row in ROWS if row.plot)
    root = ElementTree.fromstring(drawn)
    lines = root.findall(".//{http://www.w3.org/2000/svg}polyline")
    texts = [text.text for text in root.findall(".//{http://www.w3.org/2000/svg}text")]
    heights = [[float(place.split(",")[1]) for place in line.attrib["points"].split()] for line in lines]
    assert [len(set(each)) for each in heights] == [2, 1]  # the list rises, the anchor is flat
    assert {"1,000", "100,000", "list", "nothing"} <= set(texts)


def test_a_plot_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0"):
        plots.plot([])


def test_the_pages_show_the_results_that_are_kept() -> None:
    """Run ``python -m benchmarks --write --from benchmarks/results.json`` after an edit around the
    figures."""
    assert not pages.lacking(pages.rendered(Report.read(pages.RESULTS)))


def test_the_readme_stays_short() -> None:
    assert len((report.PROJECT / "README.md").read_text().splitlines()) < 150


def test_each_benchmark_of_the_plan_and_of_the_list_is_a_module() -> None:
    from benchmarks.__main__ import PLAN

    directory = report.PROJECT / "benchmarks"
    listed = set(re.findall(r"^\| `([a-z_]+)`(?:, `([a-z_]+)`)?", (directory / "README.md").read_text(), re.MULTILINE))
    names = {name for pair in listed for name in pair if name}
    commands = {path.stem for path in directory.glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    assert names == commands - {"__main__", "seeding"}
    assert {item.module for item in PLAN} <= names


def test_at_a_fixed_rate_the_wait_for_a_slow_server_counts() -> None:
    """Five requests fall due within 5 ms; the server takes at least 10 ms for each, on one
    connection."""
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_answer_slowly, args=(server,), daemon=True).start()
    target = Target(f"http://127.0.0.1:{server.getsockname()[1]}", "/")
    due = send(target, b"{}", connections=1, seconds=0.0045, per_s=1_000)
    assert len(due.took_s) == 5
    assert due.took_s[-1] >= 0.046  # it was due at 4 ms


def _answer_slowly(server: socket.socket) -> None:
    with server, server.accept()[0] as connection:
        while connection.recv(65_536):
            time.sleep(0.01)
            connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}")
