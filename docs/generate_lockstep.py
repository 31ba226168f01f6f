"""Write docs/lockstep.md: ``uv run python docs/generate_lockstep.py``. Needs Node.js, to build the
TypeScript package."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    sys.path.insert(0, str(HERE.parent))
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django

    django.setup()
    from tests.lockstep import page, typescript
    from tests.sdk_ts.conftest import built_package

    with tempfile.TemporaryDirectory() as directory:
        text = page.text(typescript.declarations(built_package(Path(directory))))
    (HERE / "lockstep.md").write_text(text)


if __name__ == "__main__":
    main()
