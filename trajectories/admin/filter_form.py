"""The API's filters, and the parameters of an export, as forms."""

from __future__ import annotations

from typing import Any

from django import forms

from trajectories.domain.clock import now_us
from trajectories.domain.contract_types import FITS, OUTCOMES
from trajectories.domain.credit import CREDITED, UNCREDITED
from trajectories.domain.query import FILTERS, Filter, parse_query
from trajectories.exceptions import InvalidInput
from trajectories.training import formats
from trajectories.training.encoding import COMPRESSIONS, FILES, JSONL, Encoding, parse_encoding
from trajectories.training.export import Request, parse_request

_CHOICES = {
    "outcome": OUTCOMES,
    "credited": (*CREDITED, UNCREDITED),
    "fit": FITS,
    "boolean": ("true", "false"),
}
_ANY = ("", "any")


class FilterForm(forms.Form):
    """One field for each filter of the API, with the same values. ``given`` has those that were
    filled in."""

    is_filter_required = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields |= {name: _field(filter_) for name, filter_ in FILTERS.items()}

    @property
    def filters(self) -> list[forms.BoundField]:
        return [self[name] for name in FILTERS]

    @property
    def given(self) -> dict[str, str]:
        return {name: self.cleaned_data[name] for name in FILTERS if self.cleaned_data.get(name)}

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if self.is_filter_required and not self.errors and not self.given:
            self.add_error(None, "Fill in at least one filter.")
        try:
            parse_query(self.given, now_us())
        except InvalidInput as error:
            for problem in error.details:
                self.add_error(problem.path, problem.message)
        return data


class EncodingForm(forms.Form):
    """The format of an export, and how its file is written."""

    format = forms.ChoiceField(choices=[(name, name) for name in formats.FORMATS], initial=formats.DEFAULT)
    file = forms.ChoiceField(choices=[(name, name) for name in FILES], initial=JSONL)
    compression = forms.ChoiceField(choices=[(name, name) for name in COMPRESSIONS], initial=COMPRESSIONS[0])

    encoding = Encoding()
    request: Request

    def parameters(self) -> dict[str, str]:
        """Return the parameters of the export."""
        return {"format": self.cleaned_data["format"]}

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not self.errors:
            try:
                self.encoding = parse_encoding({name: data[name] for name in ("file", "compression")})
                self.request = parse_request(self.parameters(), now_us())
            except InvalidInput as error:
                self.add_error(error.param if error.param in self.fields else None, error.message)
        return data

    @property
    def suffix(self) -> str:
        return f"-{self.request.format.name}{self.encoding.suffix}"


class ExportForm(EncodingForm, FilterForm):
    """An export of the runs that match the filters."""

    split = forms.CharField(required=False, help_text="Parts and their shares, such as train=0.9,test=0.1.")
    part = forms.CharField(required=False, help_text="The part of the split to export.")
    dedupe = forms.BooleanField(required=False, help_text="Leave out runs of the same request with the same phases.")

    def parameters(self) -> dict[str, str]:
        data = self.cleaned_data
        given = {name: data[name] for name in ("split", "part") if data[name]}
        return super().parameters() | self.given | given | {"dedupe": str(int(data["dedupe"]))}

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if not self.errors and data["split"] and not data["part"]:
            self.add_error("part", "A file has one part of the split: name it.")
        return data

    @property
    def main(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name not in FILTERS]


def _field(filter_: Filter) -> forms.Field:
    if filter_.kind in _CHOICES:
        choices = [_ANY, *((word, word) for word in _CHOICES[filter_.kind])]
        return forms.ChoiceField(required=False, choices=choices, help_text=filter_.description)
    return forms.CharField(required=False, strip=False, help_text=filter_.description)
