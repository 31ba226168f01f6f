"""Error codes of the store and of its clients, read from the source code."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from tests.processes import PROJECT
from trajectories import exceptions
from trajectories.exceptions import TrajectoriesError

SDKS = {
    "Python SDK": (PROJECT / "packages" / "sdk-py" / "src", "*.py"),
    "MCP tools": (PROJECT / "packages" / "mcp" / "src", "*.py"),
    "TypeScript SDK": (PROJECT / "packages" / "sdk-ts" / "src", "*.ts"),
}
OF_AN_SDK = {
    "not_serializable": "the record is not serializable as JSON and was not sent",
    "unreadable_answer": "the response is not from the store",
    "not_a_json_object": "the command line did not send this line of NDJSON",
}
"""Codes of the clients that the store never sends."""
_KNOWN = re.compile(r"""\bcode\b(?:: str)?\s*(?:=|===?|:)\s*"([a-z_]+)\"""")


@cache
def of_the_store() -> Mapping[int, frozenset[str]]:
    """Return the codes by status: those of the classes, and those given where an error is raised."""
    classes = {kind.__name__: kind for kind in vars(exceptions).values() if _is_error(kind)}
    found: defaultdict[int, set[str]] = defaultdict(set)
    for kind in classes.values():
        found[kind.status].add(kind.code)
    for module in _modules(PROJECT / "trajectories"):
        for call in _calls(module):
            name = call.func.id if isinstance(call.func, ast.Name) else ""
            for keyword in call.keywords:
                if name in classes and keyword.arg == "code":
                    found[classes[name].status].update(_texts(keyword.value, module))
    return {status: frozenset(codes) for status, codes in sorted(found.items())}


def of_the_server_for_tests() -> Mapping[int, frozenset[str]]:
    """Return the codes of ``trajectories_sdk.testing`` by status."""
    found: defaultdict[int, set[str]] = defaultdict(set)
    for module in _modules(PROJECT / "packages" / "sdk-py" / "src" / "trajectories_sdk" / "testing"):
        for call in _calls(module):
            if isinstance(call.func, ast.Name) and call.func.id == "Refusal":
                given = [str(one.value) for one in call.args[:2] if isinstance(one, ast.Constant)]
                if len(given) == 2:  # other calls pass on codes of the test of a user
                    found[int(given[0])].add(given[1])
    return {status: frozenset(codes) for status, codes in found.items()}


def known_to(sdk: str) -> frozenset[str]:
    """Return the codes in the source of a client, besides what is generated from the document."""
    folder, pattern = SDKS[sdk]
    files = [path for path in folder.rglob(pattern) if "testing" not in path.parts and path.name != "openapi.ts"]
    return frozenset(code for path in files for code in _KNOWN.findall(path.read_text()))


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, TrajectoriesError)


def _modules(folder: Path) -> Iterator[ast.Module]:
    return (ast.parse(path.read_text()) for path in sorted(folder.rglob("*.py")))


def _calls(module: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(module) if isinstance(node, ast.Call))


def _texts(value: ast.expr, module: ast.Module) -> Iterator[str]:
    """Yield the possible values of an expression."""
    match value:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from _texts(one, module)
            yield from _texts(other, module)
        case ast.Name(id=name):
            for node in ast.walk(module):
                if isinstance(node, ast.Assign) and any(
                    isinstance(to, ast.Name) and to.id == name for to in node.targets
                ):
                    yield from _texts(node.value, module)
