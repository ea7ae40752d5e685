"""What every record of the report has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ReportPart(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings", defer_build=True)
