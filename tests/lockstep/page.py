"""The page docs/lockstep.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.lockstep import api, codes, command_line, python, tools, typescript
from tests.lockstep.facts import Side
from tests.processes import PROJECT

_HEAD = """\
# Lockstep

Use this page to find the SDK method, the MCP tool or the command of an endpoint, and the class of an error.
`uv run python docs/generate_lockstep.py` generates this page. Its sources are the OpenAPI document, the requests that each
method, tool and command sends, the TypeScript declarations, and the help of the command line. `tests/lockstep` fails if an
endpoint, a parameter, a field or an error is missing on one side, and says what to change.

"""
_DOCUMENTED = {
    "README.md": "README",
    "docs/outcomes.md": "outcomes",
    "docs/security.md": "security",
    "docs/learning.md": "learning",
    "packages/sdk-py/README.md": "sdk-py",
    "packages/sdk-ts/README.md": "sdk-ts",
    "packages/mcp/README.md": "mcp",
}


def sides(declared: Mapping[str, Any]) -> list[Side]:
    """Return all sides."""
    return [
        api.document_side(),
        *python.sides(),
        *typescript.sides(declared),
        tools.side(),
        command_line.side(),
    ]


def text(declared: Mapping[str, Any]) -> str:
    """Return the text of the page."""
    known = {side.name: side for side in sides(declared)}
    parts = (_operations(known), _errors(declared), _excuses(known.values()))
    return _HEAD + "\n".join(line for part in parts for line in part)


def _operations(known: Mapping[str, Side]) -> Iterator[str]:
    columns = ("Python SDK", "TypeScript SDK", "MCP tools", "Command line")
    yield "## Endpoints"
    yield ""
    yield f"| Endpoint | {' | '.join(columns)} | Documentation |"
    yield "|---" * (len(columns) + 2) + "|"
    for (method, path), operation in api.operations(api.live()).items():
        name = operation["operationId"]
        called = [_names(known[column], name) for column in columns]
        cells = [", ".join(f"`{one}`" for one in names) or "none" for names in called]
        sections = _sections(f"{method} {path}", {one for names in called for one in names})
        yield f"| `{method} {path}` | {' | '.join(cells)} | {', '.join(sections)} |"
    yield ""


def _names(side: Side, operation: str) -> list[str]:
    return [name for name, called in side.calls.items() if operation in called]


def _sections(endpoint: str, names: Iterable[str]) -> list[str]:
    """Return links to the sections that name the endpoint or one of its callers."""
    wanted = [re.escape(f"`{endpoint}"), *(rf"\b{re.escape(name)}\b" for name in names)]
    pattern = re.compile("|".join(wanted))
    return [
        f"[{short}: {title}](../{file}#{_anchor(title)})"
        for file, short in _DOCUMENTED.items()
        for title, body in _titled(PROJECT / file)
        if pattern.search(body)
    ]


def _titled(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the second-level sections of a page."""
    for section in re.split(r"^## ", path.read_text(), flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        yield title.strip(), body


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _errors(declared: Mapping[str, Any]) -> Iterator[str]:
    names, exits, of_store = typescript.error_names(declared), command_line.exit_codes(), codes.of_the_store()
    documented = {int(fact.split()[1]) for fact in api.facts(api.live()) if fact.startswith("error ")}
    yield "## Errors"
    yield ""
    yield "Both SDKs have the same classes. Programs can rely on the codes; a known status may get new codes."
    yield ""
    yield "| Status | Class | Exit code | Codes of the store |"
    yield "|---|---|---|---|"
    for status in sorted(documented | set(of_store)):
        listed = ", ".join(f"`{code}`" for code in sorted(of_store.get(status, ())))
        yield f"| {status} | `{names[status]}` | {exits[status]} | {listed} |"
    yield ""
    yield (
        "Codes that only clients use: "
        + "; ".join(f"`{code}`: {reason}" for code, reason in codes.OF_AN_SDK.items())
        + "."
    )
    yield ""


def _excuses(known: Iterable[Side]) -> Iterator[str]:
    yield "## Intended differences"
    yield ""
    yield "| Side | Fact | Reason |"
    yield "|---|---|---|"
    for side in known:
        for pattern, reason in {**side.without, **side.own}.items():
            yield f"| {side.name} | {pattern.replace('*', '…')}{'' if pattern in side.without else ' (only here)'} | {reason} |"
    yield ""
