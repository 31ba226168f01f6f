"""The TypeScript SDK's own tests, against a store that runs."""

from __future__ import annotations

import json
from pathlib import Path

from tests.processes import Site
from tests.sdk_ts.conftest import npm


def test_the_package_builds_and_passes_its_own_tests_against_a_real_store(sdk_package: Path, store: Site) -> None:
    report = sdk_package / "report.json"
    access = {"TRAJECTORY_TEST_BASE_URL": store.web().url, "TRAJECTORY_TEST_API_KEY": store.api_key}
    reporters = ["--reporter=default", "--reporter=json", f"--outputFile={report}"]
    output = npm(sdk_package, "test", "--", *reporters, **access)
    print(output)
    told = json.loads(report.read_text())
    assert told["success"]
    # Those that need a store skip without one.
    assert told["numPendingTests"] == 0, output
    files = {Path(file["name"]).name: len(file["assertionResults"]) for file in told["testResults"]}
    assert files.keys() >= {"store.test.ts", "readme.test.ts", "exit.test.ts", "package.test.ts"}
    assert all(files.values()), files
