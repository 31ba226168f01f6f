"""What every answer's model has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ResponseModel(BaseModel):
    """A part of what the server answers with. Fields that this version does not know are kept, as attributes and in dumps."""

    model_config = ConfigDict(extra="allow", frozen=True)
