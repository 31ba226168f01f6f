"""Write docs/openapi.json from the code: ``python docs/generate_openapi.py``.

With ``--check``, only say whether it would differ.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE / "openapi.json"


def document() -> bytes:
    """Return the document that the API serves at /v1/openapi.json when it is mounted at the root."""
    sys.path.insert(0, str(HERE.parent))
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django
    from django.test import RequestFactory

    django.setup()
    from trajectories.urls.api import openapi_json

    return openapi_json(RequestFactory().get("/v1/openapi.json")).content + b"\n"


def main() -> int:
    current = document()
    if "--check" not in sys.argv:
        DOCUMENT.write_bytes(current)
    elif not DOCUMENT.exists() or DOCUMENT.read_bytes() != current:
        print("docs/openapi.json is not what the code says; write it anew: python docs/generate_openapi.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
