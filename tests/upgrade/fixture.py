"""The committed files of a data directory in which an earlier revision was at work, and what it
answered there."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict, dataclass
from pathlib import Path

DATABASE, OUTBOX = "db.sqlite3", "outbox.sqlite3"
_FIXTURES = Path(__file__).parent / "fixtures"
_EXPECTED = _FIXTURES / "expected.json"


@dataclass(frozen=True, slots=True)
class Expected:
    """The state of the earlier code. The key is valid for these files only."""

    tenant: str
    api_key: str
    listed: str
    """Its last answer to list: what was archived and what waited."""
    cursor: str
    """Its ``next_cursor`` behind the first two of these."""
    exported: str
    """Its answer to export, end included, before anything waited."""
    acknowledged: int
    """Rows that its outbox has had; a row more for each repeat and revision."""
    waiting_rows: int
    new: list[str]
    """Ids of which nothing but waiting rows exist."""
    revised: str
    """An archived id with another body that waits."""
    replaced_while_waiting: str
    """One of ``new``, with two rows that wait."""
    quarantined: str


def pack(data_dir: Path, expected: Expected) -> None:
    """Keep the files of a site that is stopped."""
    _FIXTURES.mkdir(exist_ok=True)
    for name in (DATABASE, OUTBOX):
        (_FIXTURES / f"{name}.gz").write_bytes(gzip.compress((data_dir / name).read_bytes(), mtime=0))
    _EXPECTED.write_text(json.dumps(asdict(expected), indent=1) + "\n")


def unpack(data_dir: Path, *names: str) -> Expected:
    """These files, in ``data_dir`` as they were; what was known of them."""
    for name in names:
        (data_dir / name).write_bytes(gzip.decompress((_FIXTURES / f"{name}.gz").read_bytes()))
    return Expected(**json.loads(_EXPECTED.read_text()))
