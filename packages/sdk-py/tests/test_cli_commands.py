"""The command line against a server in memory: what a real one does only now and then."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner, Result

from trajectories_sdk import Client
from trajectories_sdk.cli.commands import trajectory
from trajectories_sdk.cli.exits import HELP, Exit
from trajectories_sdk.testing import InMemoryServer

RUN = {"request_summary": "Add auth", "phases": [{"phase_name": "spec"}]}
OTHER_ID = "29243fa3-f296-5e3b-9266-7052b77cbfe9"


@pytest.fixture
def server() -> Iterator[InMemoryServer]:
    with InMemoryServer() as server:
        yield server


def invoke(server: InMemoryServer, *arguments: str, stdin: str = "", client: Client | None = None) -> Result:
    def make(**connection: Any) -> Client:
        return client or server.client(max_retries=connection["max_retries"])

    return CliRunner().invoke(trajectory, arguments, input=stdin, obj=make)


def ndjson(count: int) -> str:
    return "".join(json.dumps(RUN | {"request_summary": f"run {n}"}) + "\n" for n in range(count))


def answering(content: bytes) -> Client:
    """A client of a server that answers everything with these bytes."""
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, content=content))
    return Client("http://trajectories.test", transport=transport)


@pytest.mark.parametrize(
    ("since", "is_found"), [("7d", True), ("2026-11-20", True), ("2199-01-01", False), ("0d", False)]
)
def test_times_are_also_dates_and_spans(server: InMemoryServer, since: str, is_found: bool) -> None:
    server.client().trajectories.record(_run())
    done = invoke(server, "list", "--json", "--since", since)
    assert (done.exit_code, bool(done.stdout)) == (Exit.DONE, is_found)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, Exit.REFUSED),
        (401, Exit.NOT_ALLOWED),
        (403, Exit.NOT_ALLOWED),
        (404, Exit.REFUSED),
        (408, Exit.UNAVAILABLE),
        (409, Exit.REFUSED),
        (413, Exit.REFUSED),
        (415, Exit.REFUSED),
        (429, Exit.UNAVAILABLE),
        (500, Exit.UNAVAILABLE),
        (503, Exit.UNAVAILABLE),
    ],
)
def test_each_status_ends_with_its_exit_code(server: InMemoryServer, status: int, code: Exit) -> None:
    server.fail_next(status)
    done = invoke(server, "stats", "--max-retries", "0")
    assert (done.exit_code, done.stdout) == (code, "")
    assert f"Error: {status} failed_by_test: The test requested this failure." in done.stderr


def test_transient_errors_are_retried(server: InMemoryServer) -> None:
    server.fail_next(503, times=2)
    assert invoke(server, "stats").exit_code == Exit.DONE
    assert len(server.requests) == 3


def test_lines_recorded_before_an_outage_are_still_reported(server: InMemoryServer) -> None:
    first_batch = invoke(server, "record", "-", "--ndjson", stdin=ndjson(500))
    assert first_batch.exit_code == Exit.DONE
    away = Away(server, after=1)
    client = Client("http://trajectories.test", "key-of-the-test-server", transport=away, max_retries=0)
    done = invoke(server, "record", "-", "--json", stdin="{broken\n" + ndjson(700), client=client)
    assert done.exit_code == Exit.UNAVAILABLE
    found = json.loads(done.stdout)
    assert (found["accepted"], found["refused"]) == (500, 1)
    assert [one["line"] for one in found["results"]] == list(range(1, 502))


class Away(httpx2.BaseTransport):
    """A server that is away after so many requests."""

    def __init__(self, server: InMemoryServer, after: int) -> None:
        self._server, self._left = server, after

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self._left -= 1
        if self._left < 0:
            raise httpx2.ConnectError("away", request=request)
        return self._server.handle_request(request)


def test_a_line_that_alone_was_refused_for_now_ends_with_4(server: InMemoryServer) -> None:
    error = {"type": "unavailable_error", "code": "outbox_unavailable", "message": "The disk is full."}
    results = [{"line": 1, "status": 503, "error": error}]
    client = answering(json.dumps({"accepted": 0, "refused": 1, "results": results}).encode())
    assert invoke(server, "record", "-", "--ndjson", stdin=ndjson(1), client=client).exit_code == Exit.UNAVAILABLE


def test_an_incomplete_answer_is_said_to_be_one(server: InMemoryServer) -> None:
    page = {"data": [], "next_cursor": None, "has_more": False, "tiers": ["hot"], "complete": False}
    done = invoke(server, "list", client=answering(json.dumps(page).encode()))
    assert (done.exit_code, done.stderr.count("Incomplete")) == (Exit.DONE, 1)


def test_an_answer_of_something_else_is_no_answer_of_the_store(server: InMemoryServer) -> None:
    done = invoke(server, "stats", client=answering(b"<html>"))
    assert done.exit_code == Exit.UNAVAILABLE
    assert "Check base_url." in done.stderr


def test_an_export_that_does_not_match_its_end_line_exits_with_5_and_leaves_no_file(
    server: InMemoryServer, tmp_path: Path
) -> None:
    line = json.dumps({"id": OTHER_ID, **RUN, "recorded_at": "2026-01-05T00:00:00Z", "revision": 1}) + "\n"
    end = json.dumps({"end": {"count": 2, "cursor": OTHER_ID, "sha256": "0" * 64}}, separators=(",", ":")) + "\n"
    done = invoke(server, "export", "-o", str(tmp_path / "a"), client=answering((line + end).encode()))
    assert (done.exit_code, list(tmp_path.iterdir())) == (Exit.EXPORT_BROKEN, [])


def test_an_export_resumes_after_a_cut(server: InMemoryServer, tmp_path: Path) -> None:
    invoke(server, "record", "-", stdin=ndjson(50))
    server.cut_next_export(after_bytes=5000)
    done = invoke(server, "export", "-o", str(tmp_path / "a"), "--json")
    assert json.loads(done.stdout)["count"] == len((tmp_path / "a").read_bytes().splitlines()) == 50


@pytest.mark.parametrize("name", ["runs.parquet", "runs.csv", "runs.jsonl.gz", "runs.JSON"])
def test_an_export_to_another_format_is_refused(server: InMemoryServer, tmp_path: Path, name: str) -> None:
    done = invoke(server, "export", "-o", str(tmp_path / name))
    assert done.exit_code == 2
    assert "must end in .jsonl or .ndjson" in done.stderr
    assert name in done.stderr
    assert server.requests == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["runs", "runs.jsonl", "RUNS.NDJSON"])
def test_a_name_of_jsonl_or_without_a_suffix_is_exported_to(server: InMemoryServer, tmp_path: Path, name: str) -> None:
    assert invoke(server, "export", "-o", str(tmp_path / name)).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_interruption_ends_with_130_and_without_a_traceback(
    server: InMemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(request: httpx2.Request) -> httpx2.Response:
        raise KeyboardInterrupt

    client = Client("http://trajectories.test", transport=httpx2.MockTransport(interrupted))
    done = invoke(server, "list", client=client)
    assert (done.exit_code, done.output) == (Exit.INTERRUPTED, "Interrupted.\n")


def test_the_help_has_every_exit_code() -> None:
    shown = CliRunner().invoke(trajectory, ["--help"]).stdout
    assert set(HELP) == set(Exit)
    assert all(f"\n  {int(code)} " in shown for code in Exit)


def test_the_arguments_of_the_client_come_from_the_options() -> None:
    without_none: dict[str, Any] = {}

    def make(**connection: Any) -> Client:
        without_none.update(connection)
        return answering(b"<html>")

    options = ["--base-url", "http://a", "--api-key", "k", "--timeout-s", "2.5", "--max-retries", "0"]
    CliRunner().invoke(trajectory, ["stats", *options], obj=make)
    assert without_none == {"base_url": "http://a", "api_key": "k", "timeout_s": 2.5, "max_retries": 0}


def test_without_the_extra_the_command_names_the_package_to_install() -> None:
    without = "import sys; sys.modules['click'] = None; from trajectories_sdk.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    assert done.stderr == "The command line needs an extra: pip install 'trajectories-sdk[cli]'\n"


def test_an_invalid_address_in_the_environment_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAJSTORE_BASE_URL", "store.example")
    done = CliRunner().invoke(trajectory, ["stats"])
    assert done.exit_code == 2
    assert "base_url must be an http or https URL" in done.stderr


# --- Changes, contradictions and derived values

IMPLEMENT = {"phase_name": "implement", "phase_id": "a", "outcome": "success", "cost_usd": 0.25, "duration_ms": 1500}


def test_update_changes_a_record_and_prints_its_revision(server: InMemoryServer, tmp_path: Path) -> None:
    server.client().trajectories.record(_run(id=OTHER_ID, error="late", phases=[IMPLEMENT]))
    (tmp_path / "patch.json").write_text(json.dumps({"error": None, "phases": [{"phase_id": "a", "fit": "good_fit"}]}))
    done = invoke(server, "update", OTHER_ID, str(tmp_path / "patch.json"))
    (stored,) = server.records
    assert (done.exit_code, done.stdout) == (Exit.DONE, f"{stored.revision}\n")
    assert (stored.error, stored.phases[0].fit) == (None, "good_fit")
    shown = invoke(server, "update", OTHER_ID, "-", "--json", "--if-match", str(stored.revision), stdin="{}")
    assert json.loads(shown.stdout)["phases"][0]["fit"] == "good_fit"
    refused = invoke(server, "update", OTHER_ID, "-", "--if-match", "1", stdin="{}")
    assert refused.exit_code == Exit.REFUSED
    assert "412" in refused.stderr


@pytest.mark.parametrize("stdin", ["", "[]", "{", '{"a": 1, "a": 2}'])
def test_update_needs_one_json_object(server: InMemoryServer, stdin: str) -> None:
    done = invoke(server, "update", OTHER_ID, "-", stdin=stdin)
    assert done.exit_code == Exit.USAGE
    assert "stdin is not" in done.stderr or "stdin has" in done.stderr
    assert server.requests == []


def test_record_needs_replace_where_phases_would_be_dropped(server: InMemoryServer) -> None:
    server.client().trajectories.record(_run(id=OTHER_ID, phases=[IMPLEMENT]))
    body = json.dumps(RUN | {"id": OTHER_ID, "phases": []})
    assert invoke(server, "record", "-", stdin=body).exit_code == Exit.REFUSED
    assert invoke(server, "record", "-", "--ndjson", stdin=body).exit_code == Exit.REFUSED
    assert invoke(server, "record", "-", "--replace", stdin=body).exit_code == Exit.DONE
    assert server.records[0].phases == []


def test_contradictions_are_written_to_stderr_once_and_escaped(server: InMemoryServer) -> None:
    body = json.dumps(RUN | {"id": OTHER_ID, "request_type": "Bug\x1bfix"})
    done = invoke(server, "record", "-", stdin=body)
    assert (done.exit_code, done.stdout) == (Exit.DONE, f"{OTHER_ID}\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Warning: Trajectory {OTHER_ID} contradicts itself at request_type (request_type_case): ")
    assert "\x1b" not in line
    shown = invoke(server, "show", OTHER_ID).stdout
    assert "warning request_type" in shown


def test_list_and_show_have_derived_values_where_none_were_recorded(server: InMemoryServer) -> None:
    server.client().trajectories.record(_run(id=OTHER_ID, phases=[IMPLEMENT], policy="router@1"))
    (_, line) = invoke(server, "list", "--policy", "router@1").stdout.splitlines()
    assert line.split()[3:7] == ["success", "1", "0.25", "1500ms"]
    shown = dict(
        line.split(maxsplit=2)[1:] for line in invoke(server, "show", OTHER_ID).stdout.splitlines() if "derived" in line
    )
    assert shown == {
        "outcome": "success",
        "total_cost_usd": "0.25",
        "phases_cost_usd": "0.25",
        "unattributed_cost_usd": "0.0",
        "total_duration_ms": "1500.0",
    }
    assert invoke(server, "list", "--fit", "good_fit").stdout.count("\n") == 1
    server.client().trajectories.update(OTHER_ID, {"outcome": "partial", "total_cost_usd": 1})
    assert "derived outcome" not in invoke(server, "show", OTHER_ID).stdout
    assert invoke(server, "list").stdout.splitlines()[1].split()[3:6] == ["partial", "1", "1.00"]


def _run(**fields: Any) -> Any:
    return RUN | fields
