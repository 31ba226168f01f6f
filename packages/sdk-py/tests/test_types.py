"""The types that users get, under the two checkers that they have."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TypeAlias

import pytest

pytestmark = pytest.mark.outside

TYPED = Path(__file__).resolve().parent / "typed"
BIN = Path(sys.executable).parent
Errors: TypeAlias = set[tuple[str, int]]
"""File and line of each error."""


def mypy(directory: Path) -> Errors:
    # Without the project's own configuration, as users have it.
    command = [
        str(BIN / "mypy"),
        "--strict",
        "--config-file=",
        f"--cache-dir={directory / 'cache'}",
        "good.py",
        "bad.py",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)
    assert "checked 2 source files" in done.stdout, done.stdout + done.stderr
    return {(name, int(line)) for name, line in re.findall(r"(\w+\.py):(\d+): error", done.stdout)}


def pyright(directory: Path) -> Errors:
    settings = {"typeCheckingMode": "strict", "include": ["good.py", "bad.py"]}
    (directory / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [str(BIN / "pyright"), "--outputjson", "--pythonpath", sys.executable, "--project", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)
    except json.JSONDecodeError:
        pytest.skip(f"pyright itself could not be fetched: {(done.stdout + done.stderr)[-200:]}")
    assert found["summary"]["filesAnalyzed"] == 2, found
    return {(Path(one["file"]).name, one["range"]["start"]["line"] + 1) for one in found["generalDiagnostics"]}


@pytest.fixture(scope="module", params=[mypy, pyright], ids=lambda check: check.__name__)
def errors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Errors:
    """The output of a type checker for users' code."""
    directory = tmp_path_factory.mktemp("typed")
    for name in ("good.py", "bad.py"):
        shutil.copy(TYPED / name, directory)
    found: Errors = request.param(directory)
    return found


def test_valid_user_code_passes_the_checkers(errors: Errors) -> None:
    assert sorted(line for name, line in errors if name == "good.py") == []


def test_the_checkers_report_exactly_the_marked_errors(errors: Errors) -> None:
    lines = (TYPED / "bad.py").read_text().splitlines()
    wrong = [number for number, line in enumerate(lines, 1) if line.endswith("# wrong")]
    assert sorted(line for name, line in errors if name == "bad.py") == wrong
