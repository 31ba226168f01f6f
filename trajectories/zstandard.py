"""zstd of Python 3.14, or of the extra ``zstd``; None without either."""

from __future__ import annotations

from typing import Any

zstd: Any
try:
    from compression import zstd  # type: ignore[import-not-found,unused-ignore,no-redef]
except ImportError:
    try:
        from backports import zstd  # type: ignore[no-redef,unused-ignore]
    except ImportError:
        zstd = None
