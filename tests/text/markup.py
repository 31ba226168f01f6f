"""A page as a browser would parse it."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser
from typing import TypeAlias

Elements: TypeAlias = list[tuple[str, tuple[str, ...]]]


class Markup(HTMLParser):
    """Elements with the names of their attributes in order, addresses, and what a reader sees.

    Line breaks in text do not count.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: Elements = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag != "br":
            self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action", "formaction")]

    def handle_data(self, data: str) -> None:
        self.text += data
