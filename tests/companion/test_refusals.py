"""What every experiment must refuse before any work, and in which words."""

from dataclasses import asdict

import pytest
from tiny import TINY

from companion import experiments

# A parameter that counts and one that is real: epochs and lr, or these. Where all are whole, one of them.
COUNT, REAL = {"agreement": "seeds", "counted": "rank"}, {"agreement": "gain", "counted": "rank"}
WHOLE = {"counted": "int"}
OFFLINE = {"remedy": "lora", "training": "offline"}


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sigam": 3}, ["sigam", "allowed: scale"]),
        ({"count": "many"}, ["count", "'many'", "int"]),
        ({"count": 1.5}, ["count", "1.5", "int"]),
        ({"real": True}, ["real", "True", "float"]),
        ({"count": 0}, ["count", "0", "≥ 1"]),
        ({"scale": "large"}, ["scale", "'large'", "desk"]),
    ],
)
def test_wrong_parameters_are_refused_before_any_work(name, given, words):
    called = {"count": COUNT.get(name, "epochs"), "real": REAL.get(name, "lr")}
    called["float"] = WHOLE.get(name, "float")
    with pytest.raises(ValueError, match=".*") as error:
        experiments.run(name, {called.get(parameter, parameter): value for parameter, value in given.items()})
    assert all(called.get(word, word) in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("name", "given", "word"),
    [
        ("deployed", {"structure": "triple"}, "single, column"),
        ("deployed", {"gaussian": 0.1, "lognormal": 0.1}, "lognormal"),
        ("deployed", {"stuck_on": 1.2}, "on"),
        *(
            (name, {"lr": lr}, f"lr = {lr} is not allowed")
            for name in ("deployed", "chip_spread")
            for lr in (0.0, -0.1, float("nan"), float("inf"))
        ),
        ("offsets", {"seed": -1}, "seed = -1 is not allowed; allowed: ≥ 0"),
        ("offsets", {"fluctuation": -0.1}, "fluctuation = -0.1 is not allowed; allowed: ≥ 0"),
        ("offsets", {"sharpness": 0.0}, "sharpness = 0.0 is not allowed; allowed: > 0"),
        *(
            ("negative_feedback", {"sign": sign}, f"sign = {sign!r} .* an int")
            for sign in (True, 1.0, None, "1")
        ),
        *(("negative_feedback", {"sign": sign}, f"sign = {sign} .* -1 or 1") for sign in (0, 2)),
        ("drifted", {"network": "vgg8"}, "network = 'vgg8'.*'resnet18'"),
        ("drifted", {"network": "resnet18"}, "dataset = 'digits'.*'cifar10'"),
        ("drifted", {"cell": "flash"}, "cell = 'flash'.*'cmo, 2 %'"),
        ("drifted", {"compensation": "row"}, "compensation = 'row'.*'column'"),
        ("drifted", {"readout": "columns"}, "readout = 'columns'.*'rows'"),
        ("drifted", {"remedy": "hope"}, "remedy = 'hope'.*'retraining'"),
        ("drifted", {"remedy": "batchnorm"}, "remedy = 'batchnorm'.*a ResNet"),
        ("drifted", {"training": "online"}, "training = 'online'.*'offline'"),
        ("drifted", {"inputs": "both"}, "inputs = 'both'.*'teacher'"),
        ("drifted", {"precision": "float16"}, "precision = 'float16'.*'bfloat16'"),
        ("drifted", {"device": "tpu"}, "device = 'tpu'.*'cuda'"),
        ("drifted", {"trained_on": "flash"}, "trained_on = 'flash'.*'relative'"),
        ("drifted", {"trained_on": "cmo"}, "trained_on = 'cmo'.*offline"),
        ("drifted", {"trained_on": "cmo", "noise_epochs": 1, **OFFLINE}, "trained_on = 'cmo'.*without noise"),
        ("drifted", {"trained_on": "wan", **OFFLINE}, "t = 315576000.*86400"),
        ("drifted", {"threshold": 1.5, **OFFLINE}, "threshold = 1.5.*≤ 1"),
        ("drifted", {"threshold": 0.5}, "threshold = 0.5.*0 unless trained offline"),
        ("drifted", {"threshold": 0.5, "trained_on": "relative", **OFFLINE}, "threshold = 0.5.*clock"),
        ("drifted", {"other_chip": 100_000}, "other_chip = 100000.*≤ 99995"),
        *(
            ("drifted", {"other_chip": 1, **given}, "other_chip = 1 .*0")
            for given in ({"remedy": "none"}, OFFLINE)
        ),
        ("drifted", {"t": "soon"}, "t = 'soon'.*'10 years'"),
        ("drifted", {"t": "1 hour", "cell": "wan"}, "t = 3600.*86400"),
        ("drifted", {"rho": -0.1}, "rho = -0.1"),
        ("drifted", {"adc_bits": 17}, "adc_bits = 17.*16"),
        ("drifted", {"width": 5.0}, "width = 5.0.*≤ 4"),
        *(("drifted", {name: -1}, f"{name} = -1.*≥ 0") for name in ("other_chip", "layers", "seed")),
        *(
            ("drifted", {name: 0}, f"{name} = 0.*≥ 1")
            for name in (
                "rank",
                "samples",
                "calibration_epochs",
                "instances",
                "batch",
                "images",
                "chips",
                "hidden",
                "n_train",
            )
        ),
        *(("drifted", {name: 0.0}, f"{name} = 0.0.*> 0") for name in ("lr", "calibration_lr")),
        ("imperfections", {"network": "vgg16"}, "network = 'vgg16'.*'resnet18'"),
        ("imperfections", {"dataset": "mnist", "network": "resnet18"}, "dataset = 'mnist'.*'cifar10'"),
        ("imperfections", {"remedy": "hope"}, "remedy = 'hope'.*'freezing'"),
        ("imperfections", {"array": "triple"}, "array = 'triple'.*'single'"),
        ("imperfections", {"routing": "columns"}, "routing = 'columns'.*'joint'"),
        ("imperfections", {"routing": "joint", "spares": 4}, "routing = 'joint'.*spares"),
        (
            "imperfections",
            {"routing": "joint", "network": "resnet18", "dataset": "cifar10"},
            "routing = 'joint'.*'rows'",
        ),
        ("imperfections", {"weighting": "hessian"}, "weighting = 'hessian'.*'fisher'"),
        ("imperfections", {"reading": "SA0"}, "reading = 'SA0'.*'mostly on'"),
        ("imperfections", {"precision": "float16"}, "precision = 'float16'.*'bfloat16'"),
        ("imperfections", {"device": "tpu"}, "device = 'tpu'.*'cuda'"),
        ("imperfections", {"stuck": 1.2}, "stuck = 1.2"),
        ("imperfections", {"sigma": -0.1}, "sigma = -0.1"),
        ("imperfections", {"cluster": 0}, "= 0 .*≥ 1"),
        ("imperfections", {"g_min": 100.0}, "g_min"),
        *(
            ("imperfections", {name: 1.5}, f"{name} = 1.5.*≤ 1")
            for name in ("dead", "w_range", "missed", "false_alarms")
        ),
        ("imperfections", {"mismeasured": 0.1}, "mismeasured = 0.1.*sigma"),
        ("imperfections", {"batchnorm_images": 10}, "batchnorm_images = 10.*'mlp'"),
        *(
            ("imperfections", {"network": "vgg8", "dataset": "mnist", **wrong}, "batchnorm_images")
            for wrong in (
                {"batchnorm_images": 10, "iterations": 1},
                {"batchnorm_images": 200, "n_train": 100},
            )
        ),
        *(
            ("imperfections", {"forgive": "layer", **wrong}, word)
            for wrong, word in (
                ({"remedy": "retraining"}, "forgive = 'layer'"),
                ({"remedy": "adjusted"}, "forgive = 'layer'"),
                ({"power": 1.0}, "power = 1.0.*2"),
                ({"routing": "joint"}, "routing = 'joint'.*'rows'"),
            )
        ),
        ("imperfections", {"forgive": "row"}, "forgive = 'row'.*'column'"),
        ("in_array", {"momentum": 1.0}, "momentum = 1.0"),
        ("in_array", {"transfer": 0.0}, "transfer = 0.0"),
        ("in_array", {"accumulator": "analog"}, "accumulator = 'analog'.*'digital'"),
        ("in_array", {"accumulator": "array", "momentum": 0.9}, "momentum = 0.9"),
        ("in_array", {"accumulator": "array", "pair": "one"}, "pair = 'one'.*'both'"),
        ("in_array", {"accumulator": "digital", "pair": "potentiate"}, "pair = 'potentiate'.*'one'"),
        ("in_array", {"accumulator": "digital", "rounding": "nearest"}, "rounding = 'nearest'"),
        ("in_array", {"momentum": 0.5, "rule": "manhattan"}, "rule = 'manhattan'.*'proportional'"),
        ("imperfections", {"mismeasured": -0.1, "sigma": 1.0}, "mismeasured = -0.1"),
        ("imperfections", {"iterations": 1, "sigma": 1.0}, "clip = False"),
        ("imperfections", {"penalty": -1.0}, "penalty"),
        ("imperfections", {"cycle_to_cycle": -1.0}, "cycle_to_cycle"),
        *(
            ("imperfections", {name: -1}, f"{name} = -1")
            for name in ("tile", "spares", "iterations", "layers", "seed")
        ),
        *(("imperfections", {name: 0}, f"{name} = 0") for name in ("levels", "per_step", "pulse_batch")),
        *(("imperfections", {name: 0.0}, f"{name} = 0.0") for name in ("retrain_lr", "pulse_lr", "power")),
        ("in_array", {"rule": "newton"}, "manhattan"),
        ("in_array", {"batch": 91}, "90"),
        ("in_array", {"lr": 0.0}, "lr"),
        ("in_array", {"potentiation": 10.0}, "potentiation"),
        ("where_to_train", {"method": "on paper"}, "hardware-conscious"),
        ("where_to_train", {"endurance": 0.5}, "endurance"),
        ("where_to_train", {"gain": 0.5}, "gain"),
        ("where_to_train", {"mismeasured": 0.001, "offset": 0.0}, "mismeasured"),
        ("where_to_train", {"batch": 1078}, "1077"),
        ("agreement", {"flowers": 31}, "flowers = 31.*≤ 30"),
        ("agreement", {"structure": "triple"}, "structure = 'triple'.*double"),
        ("agreement", {"g_load": 0.0}, "g_load"),
        ("offsets", {"dataset": "iris"}, "mnist"),
        ("offsets", {"structure": "triple"}, "structure = 'triple'.*double"),
        ("offsets", {"loads": "half"}, "loads = 'half'.*'rows'"),
        ("offsets", {"start": "updated"}, "start = 'updated'.*'scratch'"),
        ("offsets", {"n_update": 1001}, "n_update = 1001.*n_train = 1000"),
        ("offsets", {"error": -0.1}, "error"),
        ("offsets", {"leak": 2.0}, "leak"),
        ("offsets_iris", {"structure": "triple"}, "structure = 'triple'.*double"),
        ("offsets_iris", {"update_epochs": 0}, "update_epochs"),
        ("offsets_iris", {"g_constant": -1.0}, "g_constant"),
        ("offsets_iris", {"sharpness": 0.0}, "sharpness = 0.0.*> 0"),
        ("chip_spread", {"dataset": "iris"}, "mnist"),
        ("chip_spread", {"array": "triple"}, "bit-sliced"),
        ("chip_spread", {"images": 5}, "images"),
        ("chip_spread", {"seed": -1}, "seed"),
        ("chip_spread", {"sigma": -0.1}, "sigma"),
        ("negative_feedback", {"network": "vgg16"}, "network = 'vgg16'.*'resnet18'"),
        ("negative_feedback", {"network": "resnet18"}, "network = 'resnet18'.*'digits'"),
        ("negative_feedback", {"dataset": "iris"}, "dataset = 'iris'.*'tiny-imagenet'"),
        ("negative_feedback", {"method": "nft"}, "method = 'nft'.*'averaging'"),
        ("negative_feedback", {"cell": "rram2"}, "cell = 'rram2'.*'fefet6'"),
        ("negative_feedback", {"decay": "rising"}, "decay = 'rising'.*'reversed'"),
        ("negative_feedback", {"heads": "none"}, "heads = 'none'.*'clean'"),
        ("negative_feedback", {"raised": "first"}, "raised = 'first'.*'ends'"),
        ("negative_feedback", {"start": "software"}, "start = 'software'.*'pretrained'"),
        ("negative_feedback", {"precision": "float16"}, "precision = 'float16'.*'bfloat16'"),
        ("negative_feedback", {"bn": "last"}, "bn = 'last'.*'first'"),
        ("negative_feedback", {"device": "tpu"}, "device = 'tpu'.*'cuda'"),
        ("negative_feedback", {"sign": 0}, "sign = 0.*-1 or 1"),
        ("negative_feedback", {"seed": -1}, "seed = -1"),
        ("negative_feedback", {"images": 0}, "images = 0"),
        ("negative_feedback", {"n_train": -1}, "n_train = -1"),
        ("negative_feedback", {"width": 0.0}, "width = 0.0"),
        ("negative_feedback", {"sigma": -0.1}, "sigma = -0.1"),
        ("negative_feedback", {"bits": 17}, "bits = 17"),
        ("negative_feedback", {"beta": -0.5}, "beta = -0.5.*paper's"),
        ("negative_feedback", {"method": "irs", "feedbacks": 4}, "feedbacks = 4.*vgg8 ≤ 3"),
        ("negative_feedback", {"step": -0.1}, "step = -0.1.*sigma = 0.1"),
        ("negative_feedback", {"step": float("inf")}, "step = inf"),
        ("negative_feedback", {"temperature": -1.0}, "temperature = -1.0"),
        ("negative_feedback", {"lr": -1.0}, "lr = -1.0"),
        ("negative_feedback", {"last_init": 0.0}, "last_init = 0.0"),
        ("negative_feedback", {"last_lr": float("inf")}, "last_lr = inf"),
    ],
)
def test_values_out_of_range_are_refused_with_the_allowed_ones(name, given, word):
    with pytest.raises(ValueError, match=word):
        experiments.resolve(name, given)


@pytest.mark.parametrize("name", TINY)
def test_no_number_is_without_a_range_and_none_is_a_truth_a_text_or_nothing(name):
    """Infinite may be what has no end: a gain, the pulses that a cell endures."""
    for parameter, value in asdict(experiments.resolve(name, {})).items():
        if type(value) in (int, float):
            for wrong in [
                -1e9 if type(value) is float else -(10**9),
                float("nan"),
                float("-inf"),
                True,
                "1",
                None,
            ]:
                with pytest.raises(ValueError, match=parameter):
                    experiments.resolve(name, {parameter: wrong})
            if parameter not in ("gain", "endurance"):
                with pytest.raises(ValueError, match=parameter):
                    experiments.resolve(name, {parameter: float("inf")})


def test_a_near_miss_is_named():
    with pytest.raises(ValueError, match="did you mean 'gaussian'"):
        experiments.resolve("deployed", {"gausian": 0.1})


def test_an_unknown_experiment_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="agreement, chip_spread, counted, deployed, drifted, imperfections"):
        experiments.resolve("nothing", {})


def test_integers_do_for_real_numbers():
    assert experiments.resolve("deployed", {"gaussian": 0}).gaussian == 0


def test_given_values_win_over_the_scale_and_the_scale_over_the_defaults():
    params = experiments.resolve("deployed", {"scale": "desk", "chips": 7})
    assert (params.seeds, params.chips) == (100, 7)
