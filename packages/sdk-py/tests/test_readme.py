"""The README's examples run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

from trajectories_sdk import AsyncClient, Client
from trajectories_sdk.shutdown import flush_all
from trajectories_sdk.testing import API_KEY, BASE_URL, InMemoryServer

README = Path(__file__).resolve().parents[1] / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def served(server: InMemoryServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> InMemoryServer:
    """Clients that are made as the README makes them reach this server; files are written into a
    directory of the test."""
    monkeypatch.setenv("TRAJSTORE_BASE_URL", BASE_URL)
    monkeypatch.setenv("TRAJSTORE_API_KEY", API_KEY)
    monkeypatch.setenv("TRAJSTORE_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.chdir(tmp_path)
    bodies: list[dict[str, Any]] = [{"request_summary": "good", "phases": []}, {"phases": []}]
    Path("runs.jsonl").write_text("".join(json.dumps(body) + "\n" for body in bodies))
    for kind in (httpx2.Client, httpx2.AsyncClient):
        original = kind.__init__

        def through(self: Any, *, _original: Any = original, transport: Any = None, **options: Any) -> None:
            _original(self, transport=transport or server, **options)

        monkeypatch.setattr(kind, "__init__", through)
    return server


def test_there_are_examples_of_both_halves() -> None:
    assert len(EXAMPLES) >= 6
    assert any("AsyncClient" in example for example in EXAMPLES)


@pytest.mark.parametrize("at", range(len(EXAMPLES)))
def test_an_example_runs_alone(at: int, served: InMemoryServer, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(EXAMPLES[at], f"README.md, example {at}", "exec"), {"__name__": "__main__"})
    flush_all()  # as the end of a program does
    assert served.requests or "InMemoryServer" in EXAMPLES[at]


def test_the_readme_names_every_method() -> None:
    text = README.read_text()
    for half in (Client, AsyncClient):
        with_server = [name for name in vars(half) if not name.startswith("_") and name not in ("close", "aclose")]
        assert all(name in text for name in with_server), with_server
    from trajectories_sdk.resources import Trajectories

    assert [name for name in dir(Trajectories) if not name.startswith("_") and f"{name}(" not in text] == []


def test_the_examples_print_the_shown_output(served: InMemoryServer, capsys: pytest.CaptureFixture[str]) -> None:
    many = next(example for example in EXAMPLES if "record_many" in example)
    exec(compile(many, "README.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert printed.startswith("2 ")
    assert "request_summary" in printed
    first = next(example for example in EXAMPLES if "by_phase_model" in example)
    exec(compile(first, "README.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert "Add user authentication to the API None" in printed
    assert Path("shop.jsonl").read_text().count("\n") == 1


def test_the_pipeline_of_the_readme_is_recorded_as_it_says(served: InMemoryServer) -> None:
    pipeline = next(example for example in EXAMPLES if "trajectories.run(" in example)
    exec(compile(pipeline, "README.md", "exec"), {"__name__": "__main__"})
    flush_all()
    (run,) = served.records
    assert [(phase.phase_name, phase.outcome, phase.attempt) for phase in run.phases] == [
        ("spec", "success", 1),
        ("design", "skipped", None),
        ("implement", "success", 1),
        ("test", "failure", 1),
        ("implement", "success", 2),
        ("test", "success", 2),
    ]
    assert (run.phases[2].requested_model, run.phases[2].model) == ("large", "small")
    assert (run.total_cost_usd, run.total_phases, run.phases_skipped, run.tests_passed) == (0.012, 6, 1, True)


def test_the_counters_that_the_readme_shows_are_those_that_are_printed(
    served: InMemoryServer, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = next(example for example in EXAMPLES if "queue.counters" in example)
    exec(compile(queue, "README.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip() == queue.rpartition("# ")[2].strip()
