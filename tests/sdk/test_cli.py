"""The console script, as scripts and people run it, against a real store."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.examples import REFERENCE, body
from tests.processes import PROJECT, run_python
from tests.sdk.served import ServedStore
from tests.sdk.ways import COMMAND
from trajectories.domain import text
from trajectories_sdk import Client, ExportProgress
from trajectories_sdk.cli.exits import HELP, Exit
from trajectories_sdk.cli.text import escaped

ESCAPE = "\x1b]0;taken\x07\x1b[2J\u202e\u009b31m"


@dataclass(frozen=True)
class Shell:
    """A shell whose environment names the store and a key."""

    environment: dict[str, str]

    def run(self, *arguments: str, stdin: str = "", expect: Exit = Exit.DONE) -> subprocess.CompletedProcess[str]:
        """The command, which must end with ``expect``, and without a traceback."""
        done = run_python([str(COMMAND), *arguments], self.environment, stdin=stdin)
        assert done.returncode == expect, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def out(self, *arguments: str, stdin: str = "", expect: Exit = Exit.DONE) -> str:
        return self.run(*arguments, stdin=stdin, expect=expect).stdout

    def json(self, *arguments: str, stdin: str = "", expect: Exit = Exit.DONE) -> Any:
        return json.loads(self.out(*arguments, "--json", stdin=stdin, expect=expect))

    def listed(self, *options: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out("list", "--json", *options).splitlines()]


def shell_of(served_store: ServedStore, *, scopes: str = "record,read,export") -> Shell:
    return Shell(
        os.environ | {"TRAJSTORE_BASE_URL": served_store.url, "TRAJSTORE_API_KEY": served_store.key(scopes=scopes)}
    )


@pytest.fixture
def shell(served_store: ServedStore) -> Shell:
    """A client of a tenant without records."""
    return shell_of(served_store)


def ndjson(runs: Sequence[Any]) -> str:
    return "".join(json.dumps(run) + "\n" for run in runs)


# Record.


def test_a_body_in_a_file_is_recorded_and_only_its_id_is_printed(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(REFERENCE, indent=2))
    done = shell.run("record", str(file))
    assert "total_differs" in done.stderr
    assert [record["id"] for record in shell.listed()] == done.stdout.split()


def test_a_refused_body_says_each_problem_and_ends_with_1(shell: Shell) -> None:
    wrong = json.dumps({"request_summary": "x", "phases": [{"cost_usd": -1}]})
    done = shell.run("record", "-", stdin=wrong, expect=Exit.REFUSED)
    assert done.stdout == ""
    assert "phases[0].phase_name: " in done.stderr
    assert "phases[0].cost_usd: " in done.stderr


def test_each_ndjson_line_has_a_result_and_a_bad_one_does_not_block_others(shell: Shell) -> None:
    good = [body(id=str(uuid4()), request_summary=f"run {n}") for n in range(2)]
    lines = [json.dumps(good[0]), "", "{broken", "[1]", '{"request_summary": 1}', '{"a": NaN}', json.dumps(good[1])]
    found = shell.json("record", "-", stdin="\n".join(lines), expect=Exit.REFUSED)
    assert (found["accepted"], found["refused"]) == (2, 4)
    assert [(one["line"], one["status"]) for one in found["results"]] == [
        (1, 201), (3, 400), (4, 400), (5, 400), (6, 400), (7, 201)
    ]  # fmt: skip
    assert [record["id"] for record in shell.listed()] == [good[1]["id"], good[0]["id"]]


def test_results_of_ndjson_are_a_table_for_people(shell: Shell) -> None:
    id_ = str(uuid4())
    done = shell.run("record", "-", stdin=ndjson([body(id=id_), {"nothing": 1}]), expect=Exit.REFUSED)
    head, first, second = done.stdout.splitlines()
    assert head.split() == ["LINE", "STATUS", "ID", "ERROR"]
    assert first.split() == ["1", "201", id_, "-"]
    assert second.split()[:2] == ["2", "400"]
    assert done.stderr == "1 accepted, 1 refused\n"


def test_a_list_can_be_recorded_again_and_nothing_changes(shell: Shell) -> None:
    shell.out("record", "-", stdin=ndjson([REFERENCE, body(request_summary="größer 認証")]))
    before = shell.listed()
    again = shell.json("record", "-", stdin=shell.out("list", "--json"))
    assert [one["status"] for one in again["results"]] == [200, 200]
    assert shell.listed() == before


def test_invalid_json_is_a_usage_error_and_nothing_is_sent(shell: Shell, tmp_path: Path) -> None:
    for stdin in ("", "\n\n", "{broken", "[1]", "NaN"):
        assert "stdin is " in shell.run("record", "-", stdin=stdin, expect=Exit.USAGE).stderr
    assert "nowhere" in shell.run("record", str(tmp_path / "nowhere"), expect=Exit.USAGE).stderr
    assert shell.listed() == []


# List and show.


def test_the_list_is_a_table_newest_first_and_says_on_stderr_that_there_are_more(shell: Shell) -> None:
    shell.out("record", "-", stdin=ndjson([body(request_summary=f"run {n}") for n in range(3)]))
    done = shell.run("list", "--limit", "2")
    head, *rows = done.stdout.splitlines()
    assert head.split()[0] == "ID"
    assert [row[-5:] for row in rows] == ["run 2", "run 1"]
    assert "There are more" in done.stderr
    assert shell.run("list", "--limit", "3").stderr == ""


def test_the_list_spans_pages(shell: Shell) -> None:
    shell.out("record", "-", stdin=ndjson([body(request_summary=str(n)) for n in range(1101)]))
    found = [record["request_summary"] for record in shell.listed("--limit", "1100")]
    assert found == [str(n) for n in range(1100, 0, -1)]


def test_filters_reach_the_store(shell: Shell) -> None:
    shell.out("record", "-", stdin=ndjson([REFERENCE, REFERENCE | {"tests_passed": False, "project": "other"}]))
    assert [record["project"] for record in shell.listed("--no-tests-passed")] == ["other"]
    assert [record["project"] for record in shell.listed("--tests-passed", "--q", "AUTHENTICATION")] == ["my-project"]
    assert shell.json("stats", "--project", "other")["count"] == 1
    assert shell.listed("--min-cost-usd", "0.06") == []


def test_a_filter_that_the_store_refuses_ends_with_1_and_names_it(shell: Shell) -> None:
    done = shell.run("list", "--since", "yesterday", expect=Exit.REFUSED)
    assert "since must be a time with an offset" in done.stderr


def test_a_run_is_shown_with_its_phases(shell: Shell) -> None:
    id_ = shell.out("record", "-", stdin=json.dumps(REFERENCE)).strip()
    shown = shell.out("show", id_)
    assert re.search(r"^request_summary +Add user authentication to the API$", shown, re.MULTILINE)
    assert re.search(
        r"^spec +success +anthropic/claude-sonnet-4 +thompson-sampling +1,500 +800 +0\.012 +2500ms +-$",
        shown,
        re.MULTILINE,
    )
    of_one = shell.json("show", id_)
    assert [warning["code"] for warning in of_one.pop("warnings")] == ["total_differs"]
    assert of_one == shell.listed()[0]


def test_an_id_that_is_not_there_ends_with_1(shell: Shell) -> None:
    done = shell.run("show", str(uuid4()), expect=Exit.REFUSED)
    assert done.stdout == ""
    assert "404 not_found" in done.stderr


# Stats.


def test_stats_show_each_phase_model_and_method_with_its_bound_and_value(shell: Shell) -> None:
    shell.out("record", "-", stdin=ndjson([REFERENCE] * 3 + [body(phases=[{"phase_name": "odd"}])]))
    shown = shell.out("stats")
    group = next(one for one in shell.json("stats")["by_phase_model"] if one["phase"] == "spec")
    credited, own = group["credited_success_rate"], group["success_rate"]
    rates = [f"{rate * 100:.1f}%" for rate in (credited["rate"], credited["low"], own["rate"])]
    row = ["spec", "anthropic/claude-sonnet-4", "thompson-sampling", "3", *rates, "0.0%", "0.012"]
    assert [*row, f"{group['value_per_dollar']:.1f}"] in [line.split() for line in shown.splitlines()]
    assert ["odd", "-", "-", "1", "-", "-", "-", "0.0%", "-", "-"] in [line.split() for line in shown.splitlines()]
    assert re.search(r"^runs +4$", shown, re.MULTILINE)


def test_stats_of_nothing_are_unknown_and_not_zero(shell: Shell) -> None:
    assert re.search(r"^success rate +-$", shell.out("stats"), re.MULTILINE)


# Untrusted text.


def test_terminal_escapes_in_records_are_shown_and_not_sent_to_the_terminal(shell: Shell) -> None:
    phase = {"phase_name": ESCAPE, "model": ESCAPE, "error": ESCAPE, "skip_reason": ESCAPE}
    id_ = str(uuid4())
    hostile = body(id=id_, request_summary=ESCAPE, phases=[phase], metadata={ESCAPE: ESCAPE})
    assert shell.json("record", "-", stdin=json.dumps(hostile))["request_summary"] == ESCAPE
    for command in (["list"], ["show", id_], ["stats"]):
        for more in ([], ["--json"]):
            shown = shell.out(*command, *more)
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown), (command, more)
            assert ("u009b" in shown) if more else (r"\x1b" in shown)
    refused = shell.run("list", "--selection-method", "x", "--since", ESCAPE, expect=Exit.REFUSED)
    assert "\x1b" not in refused.stderr


def test_the_command_and_the_store_escape_the_same_characters() -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    assert [escaped(one) for one in characters] == [text.escaped(one) for one in characters]


# How it ends.


def test_a_key_that_is_missing_wrong_or_not_for_this_ends_with_3_and_is_not_shown(served_store: ServedStore) -> None:
    wrong = "tr" + "." + "a" * 40
    shell = shell_of(served_store, scopes="record")
    done = shell.run("list", expect=Exit.NOT_ALLOWED)
    assert "403 scope_missing" in done.stderr
    assert shell.environment["TRAJSTORE_API_KEY"] not in done.stdout + done.stderr
    done = shell.run("list", "--api-key", wrong, expect=Exit.NOT_ALLOWED)
    assert wrong not in done.stdout + done.stderr
    del shell.environment["TRAJSTORE_API_KEY"]
    assert "TRAJSTORE_API_KEY" in shell.run("list", expect=Exit.NOT_ALLOWED).stderr


def test_a_store_that_is_away_ends_with_4(shell: Shell) -> None:
    unreachable = ["--base-url", "http://127.0.0.1:9", "--max-retries", "0"]
    for command in (["list"], ["stats"], ["show", str(uuid4())], ["export", "--output", os.devnull]):
        done = shell.run(*command, *unreachable, expect=Exit.UNAVAILABLE)
        assert done.stdout == ""
        assert "Connection refused" in done.stderr
    for stdin in (json.dumps(REFERENCE), ndjson([REFERENCE, REFERENCE])):
        assert (
            "Check that the store runs"
            in shell.run("record", "-", *unreachable, stdin=stdin, expect=Exit.UNAVAILABLE).stderr
        )


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["list", "--nothing"],
        ["list", "--outcome", "good"],
        ["list", "--limit", "0"],
        ["show", "no-id"],
        ["list", "--base-url", "ftp://127.0.0.1"],
        ["list", "--api-key", "two\nlines"],
        ["list", "--base-url", "http://somebody:something@127.0.0.1"],
        ["export"],
        ["export", "--output", "-", "--json"],
    ],
)
def test_wrong_usage_ends_with_2_and_sends_nothing(arguments: list[str]) -> None:
    done = Shell(dict(os.environ)).run(*arguments, expect=Exit.USAGE)
    assert done.stdout == ""
    assert "two\nlines" not in done.stderr
    assert "something" not in done.stderr


def test_a_closed_pipe_is_no_error(shell: Shell) -> None:
    shell.out("record", "-", stdin=ndjson([body(request_summary="x" * 1000) for _ in range(300)]))
    pipe = subprocess.Popen(
        [COMMAND, "list", "--limit", "300", "--json"],
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert pipe.stdout is not None
    assert pipe.stderr is not None
    with pipe:
        pipe.stdout.readline()
        pipe.stdout.close()
        assert pipe.stderr.read() == ""
    assert pipe.returncode == Exit.PIPE_CLOSED


# Export.


def records_of(shell: Shell, count: int) -> None:
    shell.out("record", "-", stdin=ndjson([body(request_summary=f"run {n}") for n in range(count)]))


def test_an_export_is_the_stores_own_bytes_in_a_file_or_a_pipe(
    shell: Shell, served_store: ServedStore, tmp_path: Path
) -> None:
    records_of(shell, 5)
    file = tmp_path / "runs.jsonl"
    done = shell.run("export", "-o", str(file))
    headers = {"Authorization": f"Bearer {shell.environment['TRAJSTORE_API_KEY']}"}
    there = httpx2.get(f"{served_store.url}/v1/agent/trajectories/export", headers=headers).content
    assert file.read_bytes() == there
    assert shell.out("export", "-o", "-").encode() == there
    assert done.stdout == ""
    assert f"5 records, SHA-256 {hashlib.sha256(there).hexdigest()}" in done.stderr
    assert list(tmp_path.iterdir()) == [file]


def test_an_export_reports_its_count_and_resume_position_to_programs(shell: Shell, tmp_path: Path) -> None:
    records_of(shell, 2)
    file = tmp_path / "runs.jsonl"
    first = shell.json("export", "-o", str(file))
    assert first["count"] == 2
    assert first["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    records_of(shell, 3)
    assert shell.json("export", "-o", str(file), "--after", first["cursor"])["count"] == 3
    assert shell.json("export", "-o", str(file), "--q", "run 2")["count"] == 1


def test_an_export_continues_a_partial_file(shell: Shell, tmp_path: Path) -> None:
    records_of(shell, 4)
    whole, file = tmp_path / "whole.jsonl", tmp_path / "runs.jsonl"
    shell.out("export", "-o", str(whole))
    with Client(shell.environment["TRAJSTORE_BASE_URL"], shell.environment["TRAJSTORE_API_KEY"]) as client:
        part = broken_off(client, file)
    lines = whole.read_bytes().splitlines(keepends=True)
    part.write_bytes(lines[0].replace(b"run 0", b"kept!") + lines[1] + lines[2][:40])
    assert shell.json("export", "-o", str(file))["count"] == 4
    assert file.read_bytes().splitlines(keepends=True) == [lines[0].replace(b"run 0", b"kept!"), *lines[1:]]
    shell.out("export", "-o", str(file), "--no-resume")
    assert file.read_bytes() == whole.read_bytes()


def broken_off(client: Client, file: Path) -> Path:
    """The part that an interrupted export has left."""

    def interrupt(progress: ExportProgress) -> None:
        if progress.count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.trajectories.export_jsonl(file, progress=interrupt)
    return next(file.parent.glob(f"{file.name}.*.part"))


def test_an_export_shows_a_bar_where_stderr_is_a_terminal(shell: Shell, tmp_path: Path) -> None:
    records_of(shell, 3)
    assert "Exporting" in at_a_terminal(shell, "export", "-o", str(tmp_path / "a"))
    assert "3/3" in at_a_terminal(shell, "export", "-o", str(tmp_path / "b"))
    assert "Exporting" not in at_a_terminal(shell, "export", "-o", str(tmp_path / "c"), "--no-progress")
    assert "Exporting" not in shell.run("export", "-o", str(tmp_path / "d")).stderr


def test_an_export_is_not_written_to_a_terminal(shell: Shell) -> None:
    assert "needs a pipe or a redirect" in at_a_terminal(shell, "export", "-o", "-", expect=Exit.USAGE)


def test_an_export_that_cannot_be_written_says_where_and_ends_with_2(shell: Shell, tmp_path: Path) -> None:
    done = shell.run("export", "-o", str(tmp_path / "nowhere" / "runs.jsonl"), expect=Exit.USAGE)
    assert "nowhere" in done.stderr


def at_a_terminal(shell: Shell, *arguments: str, expect: Exit = Exit.DONE) -> str:
    """The output as a person sees it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([COMMAND, *arguments], env=shell.environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    # On Linux the end of a terminal is an error to who reads it.
    with suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:
        while chunk := terminal.read(4096):
            seen += chunk
    assert process.wait() == expect, seen
    return seen.decode()


# The README.


README = (
    (PROJECT / "packages" / "sdk-py" / "README.md").read_text().partition("## Command line")[2].partition("\n## ")[0]
)


def test_the_examples_of_the_readme_have_the_printed_output(shell: Shell, tmp_path: Path) -> None:
    body_, session = (re.search(rf"```{kind}\n(.*?)```", README, re.DOTALL) for kind in ("json", "console"))
    assert body_ is not None
    assert session is not None
    (tmp_path / "run.json").write_text(body_[1])
    path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    for command, expected in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", session[1], re.MULTILINE):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=shell.environment | {"PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        pattern = re.escape(expected).replace(re.escape("..."), r"(?s:.*?)")
        assert re.fullmatch(pattern, done.stdout), f"{command}\n{done.stdout}"


def test_the_readme_has_the_exit_codes_of_the_help() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", README, re.MULTILINE))
    assert {int(code): text.replace("\\|", "|") for code, text in rows.items()} == {
        int(code): text for code, text in HELP.items()
    }
