"""The tests of the TypeScript SDK, with a running store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.processes import Site
from tests.sdk_ts.conftest import npm

pytestmark = pytest.mark.outside


def test_the_typescript_package_passes_its_checks_and_tests(sdk_package: Path, store: Site) -> None:
    report = sdk_package / "report.json"
    access = {"TRAJSTORE_TEST_BASE_URL": store.web().url, "TRAJSTORE_TEST_API_KEY": store.api_key}
    reporters = ["--reporter=default", "--reporter=json", f"--outputFile={report}"]
    output = npm(sdk_package, "run", "verify", "--", *reporters, **access)
    print(output)
    summary = json.loads(report.read_text())
    assert summary["success"]
    # Tests that need a store are skipped without one.
    assert summary["numPendingTests"] == 0, output
    files = {Path(file["name"]).name: len(file["assertionResults"]) for file in summary["testResults"]}
    assert files.keys() >= {"store.test.ts", "readme.test.ts", "exit.test.ts", "package.test.ts"}
    assert all(files.values()), files
