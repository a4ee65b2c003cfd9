"""The data types of a run and their storage."""

from mlscale.errors import MlscaleError
from mlscale.runs.clock import Clock, RunClock
from mlscale.runs.info import Arm, Connections, Level, Mode, Preset, RunInfo, StimulusReport, Validity, WindowDeviation
from mlscale.runs.observations import Event, EventKind, Observation, ReplicaSample, ResourceSample, Role
from mlscale.runs.run import Run, load_run, load_runs
from mlscale.runs.schedule import (
    SCHEDULE,
    ClosedLoop,
    ClosedStage,
    Constant,
    OpenLoop,
    Ramp,
    Schedule,
    Sine,
    Spike,
    Staircase,
    Step,
    Trace,
)
from mlscale.runs.store import RunWriter, TableWriter
from mlscale.runs.tables import SCHEMAS, Status, TableName
