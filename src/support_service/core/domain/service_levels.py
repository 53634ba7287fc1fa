"""Closed vocabularies of service levels. They are also the values of metric labels, so this module imports nothing."""

from typing import Literal, get_args

Target = Literal["firstResponse", "nextResponse", "resolution"]
ClockState = Literal["running", "paused", "met", "breached"]

TARGETS: tuple[Target, ...] = get_args(Target)
