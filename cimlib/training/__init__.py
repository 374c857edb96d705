"""One training loop, what networks are trained for, and training by pulses in the array.

- :mod:`~cimlib.training.fit`: the loop; :mod:`~cimlib.training.objectives`: what it minimises.
- :mod:`~cimlib.training.pulses`: writing a cell, pulse by pulse;
  :mod:`~cimlib.training.measured_pulses`: a cell as it was measured;
  :mod:`~cimlib.training.pulse_optimizer`: gradients that become pulses;
  :mod:`~cimlib.training.accumulated_pulses`, :mod:`~cimlib.training.tiki_taka`: the same with a memory of
  past gradients, digital or in a second array;
  :mod:`~cimlib.training.write_verify`: programming what was found elsewhere.
- :mod:`~cimlib.training.replicas`: many small networks trained side by side.
"""

from cimlib.training.accumulated_pulses import MixedPrecision, PulseMomentum
from cimlib.training.fit import History, OptimizerFactory, accuracy, fit, right
from cimlib.training.measured_pulses import MeasuredPulses, fit_pulses
from cimlib.training.objectives import Batch, CrossEntropy, Objective, Penalised
from cimlib.training.pulse_optimizer import Pair, PulseOptimizer, Rounding, Rule
from cimlib.training.pulses import LABEL_MAX, Pulses, curvature
from cimlib.training.replicas import Replicas, resample
from cimlib.training.tiki_taka import TikiTaka, symmetry_point
from cimlib.training.write_verify import Written, write_verify

__all__ = [
    "LABEL_MAX",
    "Batch",
    "CrossEntropy",
    "History",
    "MeasuredPulses",
    "MixedPrecision",
    "Objective",
    "OptimizerFactory",
    "Pair",
    "Penalised",
    "PulseMomentum",
    "PulseOptimizer",
    "Pulses",
    "Replicas",
    "Rounding",
    "Rule",
    "TikiTaka",
    "Written",
    "accuracy",
    "curvature",
    "fit",
    "fit_pulses",
    "resample",
    "right",
    "symmetry_point",
    "write_verify",
]
