"""Writes docs/settings.md: the settings of the app, from the docstrings in trajectories/conf.py.

    python docs/generate_settings.py

Reads the source and imports nothing, so that defaults appear as they are written there:
``4 * 1024**3``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parent
SOURCE = DOCS.parent / "trajectories" / "conf.py"
TARGET = DOCS / "settings.md"
CLASS = "Settings"
HEAD = """\
# Settings

Use this page to configure the app. One dict in the Django settings holds all settings; only `OUTBOX_PATH` is required.

```python
TRAJECTORIES = {
    "OUTBOX_PATH": "/var/lib/myproject/outbox.sqlite3",
}
```

In the names, `_s` is seconds and `_bytes` is bytes. An unknown key, a wrong type or a number that makes no sense is a system
check error, so `manage.py check` finds it. The site of this repository takes each from the environment too, with the
prefix `TRAJECTORIES_`: `TRAJECTORIES_REDIS_TTL_S=604800`. `python docs/generate_settings.py` writes this page from
`trajectories/conf.py`.

| Setting | Type | Default | |
|---|---|---|---|
"""


class Setting(NamedTuple):
    """One line of the table."""

    name: str
    type: str
    default: str
    description: str


def settings() -> Iterator[Setting]:
    """The settings in the order of the source."""
    source = SOURCE.read_text()
    module = ast.parse(source)
    body = next(node.body for node in module.body if isinstance(node, ast.ClassDef) and node.name == CLASS)
    for field, after in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            yield Setting(
                name=field.target.id.upper(),
                type=ast.get_source_segment(source, field.annotation) or "",
                default=_default(source, field.value),
                description=_docstring(after, field),
            )


def _default(source: str, value: ast.expr | None) -> str:
    if isinstance(value, ast.Call):  # field(default="off", repr=False), or field(default_factory=dict)
        given = {keyword.arg: keyword.value for keyword in value.keywords}
        return _default(source, given["default"]) if "default" in given else "{}"
    return ast.get_source_segment(source, value) or "" if value else ""


def _docstring(node: ast.stmt, field: ast.AnnAssign) -> str:
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
        raise SystemExit(f"{ast.unparse(field.target)} has no docstring.")
    return " ".join(str(node.value.value).split()).replace("``", "`")


def page() -> str:
    """The whole page."""
    lines = ("| " + " | ".join(_cells(setting)) + " |\n" for setting in settings())
    return HEAD + "".join(lines)


def _cells(setting: Setting) -> tuple[str, ...]:
    code = [f"`{text}`" for text in (setting.name, setting.type, setting.default)]
    return tuple(text.replace("|", r"\|") for text in (*code, setting.description))


if __name__ == "__main__":
    TARGET.write_text(page())
