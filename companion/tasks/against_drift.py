"""What is done about chips that age, made of the flat parameters of :mod:`companion.experiments.drifted`."""

from __future__ import annotations

from typing import Any

from cimlib.remedies import (
    BatchNormStatistics,
    CalibratedStages,
    ColumnLeastSquares,
    CommonChange,
    Compensation,
    Composed,
    Remedy,
    RetrainedForLater,
    Stages,
    StagesTrainedAhead,
)
from cimlib.remedies.drift import STAGES
from companion.tasks.task import CHECK

REMEDIES = ("none", "batchnorm", *STAGES, "common", "retraining")


def compensation(params: Any) -> Composed:
    """The compensation for what has faded, or nothing."""
    images = params.samples if params.readout == "images" else 0
    per = {
        "none": [],
        "global": [Compensation("layer", images)],
        "column": [Compensation("column", images)],
    }
    return Composed(*per[params.compensation])


def adapting(params: Any) -> list[Remedy]:
    """What is beside the arrays, or changed in them, behind a compensation."""
    epochs, lr, images = params.calibration_epochs, params.calibration_lr, params.samples

    def calibrated(kind: Any) -> Remedy:
        stages = Stages(kind, params.rank, params.seed, params.shared)
        if kind == "affine" and params.training == "distilled":
            return ColumnLeastSquares(images, params.inputs)
        if params.training != "offline":
            return CalibratedStages(stages, images, epochs, lr, params.training, params.inputs)
        return StagesTrainedAhead(
            stages,
            images,
            epochs,
            lr,
            instances=params.instances,
            times=params.times if params.threshold else (),
            threshold=params.threshold,
            check=min(params.images, CHECK),
            kind=params.kind(params.trained_on) if params.trained_on else None,
        )

    known: dict[str, list[Remedy]] = {
        "none": [],
        "batchnorm": [BatchNormStatistics(images, params.mix)],
        "common": [CommonChange(params.instances)],
        "retraining": [RetrainedForLater(epochs, lr, images)],
        **{kind: [calibrated(kind)] for kind in STAGES},
    }
    return known[params.remedy]
