"""Base class of the response models."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ResponseModel(BaseModel):
    """A part of a response. Unknown fields are kept, both as attributes and in dumps."""

    model_config = ConfigDict(extra="allow", frozen=True)
