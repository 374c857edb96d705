"""What can be done about a chip, each remedy with one face: what it knows, when it acts, what it costs.

``base``: the face, and how remedies compose. ``chips``: chips as remedies see them; ``inspection``: kinds
whose tests err. ``budget``: images, training, reading, and what was spent. ``ahead``: training for chips in
general; ``cells``: mapping, retraining, pulses; ``forgiving``: another mapping; ``amplifiers``: biases
trimmed; ``drift``: compensation and digital stages on a chip; ``before_drift``: stages trained ahead of all
chips.
"""

from cimlib.remedies.ahead import NoiseTraining
from cimlib.remedies.amplifiers import BiasTrim
from cimlib.remedies.base import STEPS, Case, Composed, Knowledge, Remedy, Step, Treated
from cimlib.remedies.before_drift import CommonChange, Instances, StagesTrainedAhead
from cimlib.remedies.budget import Budget, Costs, Samples
from cimlib.remedies.cells import Adjusted, DeviceUpdates, FaultMapping, Freezing, Retrained
from cimlib.remedies.chips import Chip, Kind
from cimlib.remedies.drift import (
    BatchNormStatistics,
    CalibratedStages,
    ColumnLeastSquares,
    Compensation,
    RetrainedForLater,
    Stages,
    carried,
)
from cimlib.remedies.forgiving import ForgivingMapping
from cimlib.remedies.inspection import Emulated, Inspected

__all__ = [
    "STEPS",
    "Adjusted",
    "BatchNormStatistics",
    "BiasTrim",
    "Budget",
    "CalibratedStages",
    "Case",
    "Chip",
    "ColumnLeastSquares",
    "CommonChange",
    "Compensation",
    "Composed",
    "Costs",
    "DeviceUpdates",
    "Emulated",
    "FaultMapping",
    "ForgivingMapping",
    "Freezing",
    "Inspected",
    "Instances",
    "Kind",
    "Knowledge",
    "NoiseTraining",
    "Remedy",
    "Retrained",
    "RetrainedForLater",
    "Samples",
    "Stages",
    "StagesTrainedAhead",
    "Step",
    "Treated",
    "carried",
]
