"""Every command of docs/training.md (its first section) and docs/routing.md, run as they are
written."""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.processes import PROJECT, Site, run_python
from tests.training.test_routing_example import write_routerarena, write_swebench

pytestmark = pytest.mark.outside

_BLOCK = re.compile(r"^```(?P<language>sh|text)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_QUICKSTART = "python manage.py quickstart\n"


class Block(NamedTuple):
    """Commands, and what the page says that they print."""

    commands: str
    output: str


def blocks(page: str, heading: str = "") -> list[Block]:
    """Return the commands of a page, or of one of its sections."""
    text = (PROJECT / "docs" / page).read_text()
    if heading:
        text = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    found: list[Block] = []
    for match in _BLOCK.finditer(text):
        if match["language"] == "sh":
            found.append(Block(match["text"], ""))
        else:
            found[-1] = found[-1]._replace(output=match["text"])
    assert found[0].commands.startswith(_QUICKSTART)
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The processes of a quick start."""
    site = Site.make(tmp_path_factory.mktemp("pages") / "site", {})
    site.worker()
    site.environment["TRAJSTORE_BASE_URL"] = site.web().url
    site.environment["NO_PROXY"] = "127.0.0.1"
    yield site
    site.close()


def run(site: Site, found: list[Block], directory: Path) -> list[str]:
    """Run the commands as a shell does, and return the output of each block.

    Python starts faster outside of a shell (``tests.prefork``).
    """
    environment = dict(site.environment)
    outputs = []
    for block in found:
        text = block.commands.replace(_QUICKSTART, "").replace("\\\n", "").replace("var/", f"{directory}/")
        lines = string.Template(text.replace("$(", "$$(")).substitute(environment).splitlines()
        outputs.append("".join(_run(line, environment) for line in lines))
    return outputs


def _run(line: str, environment: dict[str, str]) -> str:
    if line.startswith("export "):
        name, _, value = line.removeprefix("export ").partition("=")
        environment[name] = _run(value.removeprefix("$(").removesuffix(")"), environment).strip()
        return ""
    python, *arguments = shlex.split(line)
    assert python == "python"
    done = run_python(arguments, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_shown(shown: str, output: str) -> None:
    """Compare an output with what a page shows of it: … stands for a number, or for lines.

    The figures of a policy may differ a little on other processors.
    """
    lines = iter(output.splitlines())
    for expected in shown.splitlines():
        if expected != "…":
            assert any(_is_like(expected, line) for line in lines), f"{expected!r} is missing in {output}"


def _is_like(expected: str, line: str) -> bool:
    words, others = expected.split(), line.split()
    return len(words) == len(others) and all(map(_is_same, words, others))


def _is_same(word: str, other: str) -> bool:
    if re.fullmatch(r"\d\.\d+", word) and re.fullmatch(r"\d\.\d+", other):
        return abs(float(word) - float(other)) <= 0.02
    return word in ("…", other)


def test_docs_training_leads_from_an_empty_store_to_a_policy(site: Site, tmp_path: Path) -> None:
    found = blocks("training.md", "From an empty store to a policy")
    outputs = run(site, found, tmp_path)
    assert sum(bool(block.output) for block in found) == 4
    for block, output in zip(found, outputs, strict=True):
        assert_shown(block.output, output)
    assert (tmp_path / "training" / "policy.vw").stat().st_size > 0


def test_docs_routing_works_with_data_of_the_same_layout(site: Site, tmp_path: Path) -> None:
    site.environment["SWEBENCH"] = str(write_swebench(tmp_path / "outcomes.jsonl"))
    site.environment["ROUTERARENA"] = str(write_routerarena(tmp_path / "answers"))
    output = "".join(run(site, blocks("routing.md"), tmp_path))
    assert "Cheapest first: cheap, then strong: 80.0 % for 4.80 USD" in output
    assert "Best single model: plain: 50.0 % for 0.30 USD" in output
