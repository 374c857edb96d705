"""The papers' methods: objectives, placements, calibrations.

- :mod:`~cimlib.methods.negative_feedback`, :mod:`~cimlib.methods.snapshots`: negative feedback training and
  its controls; :mod:`~cimlib.methods.correctnet`: a regulariser that it is compared with.
- :mod:`~cimlib.methods.mapping`, :mod:`~cimlib.methods.placement_costs`: a layout around broken cells;
  :mod:`~cimlib.methods.forgiving`: one that forgives a common factor.
- :mod:`~cimlib.methods.retraining`, :mod:`~cimlib.methods.freezing`,
  :mod:`~cimlib.methods.device_updates`: training for one chip whose errors are known.
- :mod:`~cimlib.methods.bias_rows`, :mod:`~cimlib.methods.uncertainty`: amplifiers that are off, mended by one
  cell a neuron, and training that knows how well they were measured.
- :mod:`~cimlib.methods.distillation`, :mod:`~cimlib.methods.compensation`: calibrating a drifted chip without
  writing a cell; :mod:`~cimlib.methods.least_squares`: the same in closed form;
  :mod:`~cimlib.methods.schedule`: which set of stages at which age.
"""

from cimlib.methods.bias_rows import BiasRows, Trim, at_rest, bias_rows, trim
from cimlib.methods.compensation import compensate, mix_batchnorm, recalibrate_batchnorm
from cimlib.methods.correctnet import CorrectNet
from cimlib.methods.device_updates import Updated, on_device
from cimlib.methods.distillation import AdapterTraining, distil
from cimlib.methods.forgiving import mapped_forgiving
from cimlib.methods.freezing import Frozen, frozen
from cimlib.methods.least_squares import regress_columns
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
from cimlib.methods.uncertainty import Posterior, Redrawn, posterior, shrink

__all__ = [
    "IRS",
    "OVF",
    "AdapterTraining",
    "BatchNorms",
    "BiasRows",
    "Change",
    "CorrectNet",
    "Decay",
    "Frozen",
    "Hook",
    "NegativeFeedback",
    "NoiseAveraging",
    "Posterior",
    "Redrawn",
    "Retraining",
    "Schedule",
    "Sign",
    "State",
    "Temperature",
    "Trim",
    "Updated",
    "Weighting",
    "adjusted",
    "at_rest",
    "bias_rows",
    "compensate",
    "decay_factors",
    "distil",
    "fault_map",
    "frozen",
    "greedy",
    "mapped",
    "mapped_forgiving",
    "mapped_jointly",
    "mix_batchnorm",
    "on_device",
    "posterior",
    "recalibrate_batchnorm",
    "regress_columns",
    "row_costs",
    "sensitivity",
    "shrink",
    "snapshot_heads",
    "trim",
]
