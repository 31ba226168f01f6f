"""The card of a data set on the Hub: README.md of its repository."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

import trajectories
from trajectories.domain.text import visible
from trajectories.training.hub_state import PATH, State

_SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
_MAX_EXAMPLE_CHARS = 4_000
_MAX_TEXT_CHARS = 200
_PUNCTUATION = re.compile(r"[!-,./:-@\[-`{-~]")


def card(state: State, repo_id: str, example: bytes | None) -> str:
    """Return the card. Its first part is YAML, from which ``load_dataset`` finds the parts.

    Args:
        example: a line of the data set, None if it has none.
    """
    from huggingface_hub import DatasetCardData

    lines = _lines_by_part(state)
    data = DatasetCardData(
        license=state.license or "other",
        pretty_name=repo_id.rpartition("/")[2],
        tags=["trajectories", "orchestration", "agents", state.format],
        size_categories=_size(state.lines),
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": part, "path": f"data/{part}/*.{state.container}"} for part in lines],
            }
        ]
        if lines
        else [],
    )
    sections = [*_head(state, repo_id, lines), *_schema(state), *_example(example), *_provenance(state)]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(sections) + "\n"


def _lines_by_part(state: State) -> dict[str, int]:
    found: dict[str, int] = {}
    order = [] if state.split is None else [piece.partition("=")[0].strip() for piece in state.split.split(",")]
    for file in state.files.values():
        found[str(file.part)] = found.get(str(file.part), 0) + file.lines
    return dict(sorted(found.items(), key=lambda one: (order.index(one[0]) if one[0] in order else len(order), one[0])))


def _head(state: State, repo_id: str, lines: Mapping[str, int]) -> Iterator[str]:
    yield f"# {repo_id.rpartition('/')[2]}\n"
    yield (
        f"Orchestration trajectories in the format `{state.format}`: {state.lines:,} rows of {state.records:,} runs. A run"
        " is one execution of a multi-phase agent workflow.\n"
    )
    yield f'```python\nfrom datasets import load_dataset\n\ndata = load_dataset("{repo_id}")\n```\n'
    yield "## Figures\n"
    yield from _table(("Split", "Rows"), [(part, f"{count:,}") for part, count in lines.items()])
    policies = state.total("policies")
    if policies:
        yield from _table(("Policy", "Runs"), [(_plain(name), f"{count:,}") for name, count in policies.items()])


def _schema(state: State) -> Iterator[str]:
    yield "## Columns\n"
    kinds = "`json` is any JSON" + (" as text" if state.container == "parquet" else "") + ", `time` is RFC 3339."
    yield f"Schema version {state.schema_version}; {kinds} A column may be null or absent where it is unknown.\n"
    yield from _table(("Column", "Kind"), list(_columns(state.columns, "")))


def _columns(columns: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, kind in columns.items():
        ends, inner = "", kind
        while isinstance(inner, list):
            ends, inner = ends + "[]", inner[0]
        path = f"{prefix}{name}{ends}"
        if isinstance(inner, Mapping):
            yield from _columns(inner, f"{path}.")
        else:
            yield f"`{path}`", f"{'list of ' if ends else ''}{inner}"


def _example(example: bytes | None) -> Iterator[str]:
    if example is None:
        return
    text = orjson.dumps(_short(orjson.loads(example)), option=orjson.OPT_INDENT_2).decode()
    if len(text) > _MAX_EXAMPLE_CHARS:
        text = text[:_MAX_EXAMPLE_CHARS] + "…"
    text = visible(text)
    # A longer fence than any in the text, so that recorded text stays inside.
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    yield f"## Example\n\nThe first row, long texts cut.\n\n{fence}json\n{text}\n{fence}\n"


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _short(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_short(item) for item in value]
    if isinstance(value, str) and len(value) > _MAX_TEXT_CHARS:
        return value[:_MAX_TEXT_CHARS] + "…"
    return value


def _provenance(state: State) -> Iterator[str]:
    yield "## Provenance\n"
    first = min((one.first["recorded_at"] for one in state.ranges if one.first), default=None)
    last = max((one.last["recorded_at"] for one in state.ranges if one.last), default=None)
    facts = {
        "Store": state.store,
        "Pushed": state.as_of,
        "Recorded": f"{first} to {last}" if first else None,
        "Filters": ", ".join(f"{name}={value}" for name, value in state.filters.items()) or "none",
        "Options": ", ".join(f"{name}={value}" for name, value in state.options.items()) or "none",
        "Split": f"{state.split}, by {state.split_by}" if state.split else "none",
        "Duplicates": "left out" if state.deduplicated else "kept",
        **{f"Left out: {reason}": f"{count:,}" for reason, count in state.total("left_out").items()},
        "Written by": f"django-trajectories {trajectories.__version__}",
    }
    yield from _table(("Fact", "Value"), [(name, value) for name, value in facts.items() if value is not None])
    yield f"[`{PATH}`]({PATH}) has the SHA-256 of each file. Each push writes this page anew."


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> Iterator[str]:
    cells = [head, ("---", "---"), *rows]
    yield "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in cells) + "\n"


def _plain(text: str) -> str:
    """Return recorded text that Markdown shows as it is: without links, images and code, which a
    reader of the card would load or follow."""
    return _PUNCTUATION.sub(lambda found: f"&#{ord(found[0])};", visible(text))


def _cell(text: str) -> str:
    text = " ".join(text.split())
    return re.sub(r"&(?!#\d+;)|[<>|]", lambda found: f"&#{ord(found[0])};", text)


def _size(lines: int) -> str:
    below = next((size for size in _SIZES if lines < size), None)
    if below is None:
        return "n>10M" if lines else "n<1K"
    return "n<1K" if below == _SIZES[0] else f"{_short_number(below // 10)}<n<{_short_number(below)}"


def _short_number(number: int) -> str:
    return f"{number // 1_000_000}M" if number >= 1_000_000 else f"{number // 1_000}K"
