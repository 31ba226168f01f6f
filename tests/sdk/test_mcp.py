"""The MCP tools as clients have them in life: a client of the official SDK, over both transports,
on a site of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from tests.processes import PROJECT, Site, Web
from trajectory_site import servers

pytestmark = pytest.mark.outside

COMMAND = Path(sys.executable).with_name("trajectories-mcp")
GOLDEN = PROJECT / "packages" / "mcp" / "tests" / "tools.json"
PHASES = [
    {
        "phase_name": "spec",
        "model": "large",
        "model_selection_method": "explicit",
        "outcome": "success",
        "cost_usd": 0.01,
    },
    {"phase_name": "design", "outcome": "skipped", "skip_reason": "small change"},
    {"phase_name": "review", "model": "small", "requested_model": "large", "outcome": "failure", "error": "no answer"},
    {"phase_name": "review", "model": "large", "outcome": "success", "attempt": 2},
]
CREDITED = ["success (tests_passed+review)", None, None, "success (tests_passed)"]
# A review that refused work has no credit, and tests that passed credit the phases before them.
RATES = {
    ("spec", "large"): (1, 1),
    ("design", None): (None, None),
    ("review", "small"): (None, 0),
    ("review", "large"): (1, 1),
}
"""By phase and model: the credited success rate, and the rate by the phases' own outcomes."""
# The first call of a process loads the SDK, and the machine may have much else to do.
TIMEOUT_S = 120.0

Connect = Callable[[str, str | None], AbstractAsyncContextManager[Client]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site.make(tmp_path_factory.mktemp("mcp") / "site", {})
    yield site
    site.close()


@pytest.fixture(scope="module")
def web(site: Site) -> Web:
    return site.web()


@pytest.fixture(scope="module")
def key(site: Site) -> Callable[[str], str]:
    """Makes a key of this tenant."""
    return lambda tenant: site.manage("create_api_key", tenant, "--scopes", "record,read").strip()


@asynccontextmanager
async def over_http(url: str, key: str | None, mode: str = "auto") -> AsyncIterator[Client]:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=TIMEOUT_S) as http:
        transport = streamable_http_client(f"{url}/v1/mcp/connect", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


@asynccontextmanager
async def over_stdio(url: str, key: str | None, mode: str = "auto") -> AsyncIterator[Client]:
    environment = {"TRAJSTORE_BASE_URL": url} | ({} if key is None else {"TRAJSTORE_API_KEY": key})
    async with Client(StdioServerParameters(command=str(COMMAND), env=environment), mode=mode) as client:
        yield client


TRANSPORTS = pytest.mark.parametrize("connect", [over_http, over_stdio])


async def asked(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """An answer that must be given; the client has held it against the schema."""
    answer = await client.call_tool(f"br_trajectory_{tool}", arguments)
    assert not answer.is_error, answer.content
    given: dict[str, Any] = answer.structured_content
    return given


def _rates(group: dict[str, Any]) -> tuple[float | None, float | None]:
    return group["success_rate"].get("rate"), group["success_rate_by_phase_outcome"].get("rate")


async def refusal(client: Client, tool: str, arguments: dict[str, Any]) -> str:
    answer = await client.call_tool(f"br_trajectory_{tool}", arguments)
    assert answer.is_error, answer.structured_content
    return str(answer.content)


@TRANSPORTS
@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_recorded_run_is_stored_listed_shown_and_counted(
    connect: Any, mode: str, web: Web, key: Callable[[str], str]
) -> None:
    ours = key(f"{connect.__name__}-{mode}".replace("_", "-"))

    async def scenario() -> str:
        async with connect(web.url, ours, mode) as client:
            run = {"request_summary": "Add auth — größer, 認証", "phases": PHASES, "tests_passed": True}
            id_ = (await asked(client, "record", run))["id"]
            (listed,) = (await asked(client, "query", {}))["untrusted_data"]["runs"]
            assert listed["id"] == id_
            shown = (await asked(client, "query", {"id": id_}))["untrusted_data"]["run"]["phases_in_detail"]
            assert [one.pop("credited", None) for one in shown] == CREDITED
            assert shown == PHASES
            stats = (await asked(client, "query", {"show": "stats"}))["untrusted_data"]["stats"]
            assert {(group["phase"], group.get("model")): _rates(group) for group in stats["groups"]} == RATES
            assert stats["credit_rule"] == "checks"
            assert "phases[0].phase_name" in await refusal(client, "record", {"request_summary": "x", "phases": [{}]})
            return str(id_)

    id_ = anyio.run(scenario)
    headers = {"Authorization": f"Bearer {ours}"}
    stored = httpx2.get(f"{web.url}/v1/agent/trajectories/{id_}", headers=headers, trust_env=False).json()
    assert stored["phases"] == PHASES
    assert stored["request_summary"] == "Add auth — größer, 認証"


@TRANSPORTS
def test_both_transports_tell_the_golden_list_of_tools(connect: Any, web: Web, site: Site) -> None:
    async def listed() -> list[dict[str, Any]]:
        async with connect(web.url, site.api_key) as client:
            tools = (await client.list_tools()).tools
            return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]

    assert anyio.run(listed) == json.loads(GOLDEN.read_text())


def test_tenants_that_use_one_server_at_once_never_see_each_others_runs(web: Web, key: Callable[[str], str]) -> None:
    tenants = {tenant: key(tenant) for tenant in ("north", "south", "west")}
    rounds = 10

    async def use(tenant: str) -> None:
        async with over_http(web.url, tenants[tenant]) as client:
            own = []
            for _ in range(rounds):
                run = {"request_summary": f"Of {tenant}", "project": tenant, "phases": PHASES}
                own.append((await asked(client, "record", run))["id"])
                seen = (await asked(client, "query", {"limit": 20}))["untrusted_data"]["runs"]
                assert [run["id"] for run in seen] == own[::-1]
                assert {run["project"] for run in seen} == {tenant}
                stats = (await asked(client, "query", {"show": "stats"}))["untrusted_data"]["stats"]
                assert stats["totals"]["count"] == len(own)
            for other in tenants.keys() - {tenant}:
                assert (await asked(client, "query", {"project": other}))["untrusted_data"]["runs"] == []

    async def all_at_once() -> None:
        async with anyio.create_task_group() as group:
            for tenant in tenants:
                group.start_soon(use, tenant)

    anyio.run(all_at_once)


def test_a_server_with_one_thread_answers_calls_that_come_at_once(site: Site, key: Callable[[str], str]) -> None:
    """Each call asks the API in turn. Did it need another thread of the process, then the first one
    would wait forever."""
    web, ours = site.web(threads=1), key("crowd")
    at_once, rounds = 8, 3

    async def use(number: int) -> None:
        async with over_http(web.url, ours) as client:
            for _ in range(rounds):
                await asked(client, "record", {"request_summary": f"Of {number}", "phases": PHASES})
                await asked(client, "query", {"show": "stats"})

    async def all_at_once() -> int:
        with anyio.fail_after(TIMEOUT_S):
            async with anyio.create_task_group() as group:
                for number in range(at_once):
                    group.start_soon(use, number)
        async with over_http(web.url, ours) as client:
            return int((await asked(client, "query", {"show": "stats"}))["untrusted_data"]["stats"]["totals"]["count"])

    assert anyio.run(all_at_once) == at_once * rounds


@pytest.mark.parametrize(("key", "message"), [(None, "Send your API key"), ("nobody.knows", "is not known")])
def test_over_http_a_bad_key_fails_when_the_client_connects(key: str | None, message: str, web: Web) -> None:
    async def connect() -> None:
        async with over_http(web.url, key):
            pass

    with pytest.RaisesGroup(pytest.RaisesExc(MCPError, match=f"{message}.*create_api_key"), flatten_subgroups=True):
        anyio.run(connect)


@pytest.mark.parametrize(("key", "message"), [(None, "Send your API key"), ("nobody.knows", "is not known")])
def test_over_stdio_a_bad_key_fails_at_the_first_call(key: str | None, message: str, web: Web) -> None:
    async def call() -> str:
        async with over_stdio(web.url, key) as client:
            return await refusal(client, "query", {})

    answer = anyio.run(call)
    assert message in answer
    assert "TRAJSTORE_API_KEY" in answer


def test_over_stdio_calls_fail_while_the_store_is_unavailable(site: Site) -> None:
    port = servers.free_port()

    async def call() -> None:
        async with over_stdio(f"http://127.0.0.1:{port}", site.api_key) as client:
            away = await refusal(client, "record", {"request_summary": "Add auth", "phases": []})
            assert "The store is unavailable" in away
            id_ = away.partition("with the id ")[2].partition(":")[0]
            site.web(port=port)
            run = {"id": id_, "request_summary": "Add auth", "phases": []}
            assert (await asked(client, "record", run))["id"] == id_

    anyio.run(call)


def test_a_configuration_that_makes_no_sense_ends_the_command_with_a_sentence() -> None:
    environment = os.environ | {"TRAJSTORE_BASE_URL": "store.example"}
    done = subprocess.run([COMMAND], env=environment, input="", capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("trajectories-mcp: base_url must be an http or https URL")


def test_nothing_but_the_protocol_is_on_standard_output(web: Web, site: Site) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "nothing", "arguments": {}}}
    environment = os.environ | {"TRAJSTORE_BASE_URL": web.url, "TRAJSTORE_API_KEY": site.api_key}
    said = "no json\n" + json.dumps(message) + "\n"
    done = subprocess.run([COMMAND], env=environment, input=said, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        assert json.loads(line)["jsonrpc"] == "2.0"


# --- The README


README = (PROJECT / "packages" / "mcp" / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def configured() -> list[dict[str, Any]]:
    """Return the README's configuration of each client, the server's entry alone."""
    jsons = [json.loads(block) for block in blocks("json")]
    tomls = [tomllib.loads(block) for block in blocks("toml")]
    return [(given.get("mcpServers") or given.get("servers"))["trajectories"] for given in jsons] + [
        given["mcp_servers"]["trajectories"] for given in tomls
    ]


def test_the_client_settings_of_the_readme_connect(web: Web, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}")
    servers_of_readme = configured()
    assert len(servers_of_readme) == 5

    async def connect() -> None:
        for server in servers_of_readme:
            text = re.sub(r"\bKEY\b|\$\{input:trajectory-key\}", site.api_key, json.dumps(server))
            given = json.loads(text.replace("http://127.0.0.1:8000", web.url))
            if "command" in given:
                connected = over_stdio(given["env"]["TRAJSTORE_BASE_URL"], given["env"]["TRAJSTORE_API_KEY"])
                assert shutil.which(given["command"]) == str(COMMAND)
            else:
                assert given["url"] == f"{web.url}/v1/mcp/connect"
                headers = given.get("headers") or {"Authorization": f"Bearer {site.api_key}"}
                connected = over_http(web.url, headers["Authorization"].removeprefix("Bearer "))
            async with connected as client:
                assert (await asked(client, "query", {"limit": 1}))["show"] == "runs"

    anyio.run(connect)


def test_the_program_of_the_readme_runs(web: Web, key: Callable[[str], str], tmp_path: Path) -> None:
    (program,) = blocks("python")
    environment = {"TRAJSTORE_BASE_URL": web.url, "TRAJSTORE_API_KEY": key("readme")}
    script = tmp_path / "program.py"
    script.write_text(program.replace("ENVIRONMENT", repr(environment)))
    path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, str(script)], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # Wilson (1927): for 1 success of 1 at z = 1.96 the lower bound is 1 / (1 + z²).
    model, count, low, rule = done.stdout.splitlines()[1].split()
    assert (model, count, rule) == ("large", "1", "checks")
    assert float(low) == pytest.approx(1 / (1 + 1.96**2), rel=1e-3)


def test_the_questions_of_the_readme_are_answered(web: Web, site: Site) -> None:
    questions = [json.loads(given) for given in re.findall(r"\| `(\{.*\})` \|", README)]
    assert len(questions) == 5

    async def ask() -> None:
        async with over_http(web.url, site.api_key) as client:
            run = {"request_summary": "Add auth", "phases": PHASES}
            id_ = (await asked(client, "record", run))["id"]
            for question in questions:
                await asked(client, "query", {name: id_ if name == "id" else value for name, value in question.items()})

    anyio.run(ask)
