"""The papers' methods: objectives, placements, calibrations.

- :mod:`~cimlib.methods.negative_feedback`, :mod:`~cimlib.methods.snapshots`: negative feedback training and
  its controls; :mod:`~cimlib.methods.correctnet`: a regulariser that it is compared with.
- :mod:`~cimlib.methods.mapping`, :mod:`~cimlib.methods.placement_costs`: a layout around broken cells;
  :mod:`~cimlib.methods.forgiving`: one that forgives a common factor.
- :mod:`~cimlib.methods.retraining`, :mod:`~cimlib.methods.freezing`,
  :mod:`~cimlib.methods.device_updates`: training for one chip whose errors are known.
- :mod:`~cimlib.methods.distillation`, :mod:`~cimlib.methods.compensation`: calibrating a drifted chip without
  writing a cell; :mod:`~cimlib.methods.schedule`: which set of stages at which age.
"""

from cimlib.methods.compensation import compensate, recalibrate_batchnorm
from cimlib.methods.correctnet import CorrectNet
from cimlib.methods.device_updates import Updated, on_device
from cimlib.methods.distillation import AdapterTraining, distil
from cimlib.methods.forgiving import mapped_forgiving
from cimlib.methods.freezing import Frozen, frozen
from cimlib.methods.mapping import mapped, mapped_jointly
from cimlib.methods.negative_feedback import (
    OVF,
    BatchNorms,
    Change,
    Decay,
    NegativeFeedback,
    NoiseAveraging,
    Sign,
    Temperature,
    decay_factors,
)
from cimlib.methods.placement_costs import Weighting, fault_map, row_costs, sensitivity
from cimlib.methods.retraining import Retraining, adjusted
from cimlib.methods.schedule import Schedule, State, greedy
from cimlib.methods.snapshots import IRS, Hook, snapshot_heads

__all__ = [
    "IRS",
    "OVF",
    "AdapterTraining",
    "BatchNorms",
    "Change",
    "CorrectNet",
    "Decay",
    "Frozen",
    "Hook",
    "NegativeFeedback",
    "NoiseAveraging",
    "Retraining",
    "Schedule",
    "Sign",
    "State",
    "Temperature",
    "Updated",
    "Weighting",
    "adjusted",
    "compensate",
    "decay_factors",
    "distil",
    "fault_map",
    "frozen",
    "greedy",
    "mapped",
    "mapped_forgiving",
    "mapped_jointly",
    "on_device",
    "recalibrate_batchnorm",
    "row_costs",
    "sensitivity",
    "snapshot_heads",
]
