"""What must hold of Tiny ImageNet: found as it is published, split once and for all, or a clear refusal."""

import pytest
import torch
from PIL import Image

from cimlib.datasets import DataError, load_tiny_imagenet, tiny_imagenet
from cimlib.datasets.tiny_imagenet import FOLDER

CLASSES = ("n01443537", "n01629819", "n01641577")
SPLITS = ("train", "val", "test")
TRAIN, HELD, TEST = 5, 2, 4  # images of a class, how many of them are for validation; test images in all
TEST_LABELS = [2, 0, 1, 0]


def picture(path, *colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), colour).save(path, "JPEG", quality=95)


@pytest.fixture
def root(monkeypatch, tmp_path):
    """A copy in the published layout: red says which class, green which image, blue which folder."""
    root = tmp_path / FOLDER
    for label, name in enumerate(CLASSES):
        for i in range(TRAIN):
            picture(root / "train" / name / "images" / f"{name}_{i}.JPEG", 40 * label, 40 * i, 0)
        (root / "train" / name / f"{name}_boxes.txt").write_text(
            f"{name}_0.JPEG\t0\t10\t63\t58\n", encoding="utf-8"
        )
    lines = []
    for i, label in enumerate(TEST_LABELS):
        picture(root / "val" / "images" / f"val_{i}.JPEG", 40 * label, 40 * i, 200)
        lines.append(f"val_{i}.JPEG\t{CLASSES[label]}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines), encoding="utf-8")
    picture(root / "test" / "images" / "test_0.JPEG", 255, 255, 255)
    (root / "wnids.txt").write_text("\n".join(reversed(CLASSES)), encoding="utf-8")
    monkeypatch.setenv("CIMLIB_DATA", str(tmp_path))
    monkeypatch.setattr(tiny_imagenet, "VALIDATION", HELD)
    return root


def colours(x):
    """(red, green, blue) of each image, whole numbers up to what JPEG loses."""
    assert (x.amax((2, 3)) - x.amin((2, 3)) < 0.02).all()
    return (255 * x.mean((2, 3)) / 40).round().int().tolist()


def test_training_images_are_the_first_of_each_class_and_validation_images_the_last(root):
    train, val = (colours(load_tiny_imagenet(split)[0]) for split in ("train", "val"))
    assert train == [[label, i, 0] for i in range(TRAIN - HELD) for label in range(3)]
    assert val == [[label, i, 0] for i in range(TRAIN - HELD, TRAIN) for label in range(3)]


def test_test_images_are_the_published_validation_images_in_the_order_of_their_list(root):
    x, y = load_tiny_imagenet("test")
    assert colours(x) == [[label, i, 5] for i, label in enumerate(TEST_LABELS)]
    assert y.tolist() == TEST_LABELS


@pytest.mark.parametrize("split", SPLITS)
def test_every_image_has_the_label_of_its_class(root, split):
    x, y = load_tiny_imagenet(split)
    assert x.shape == (len(y), 3, 64, 64) and x.dtype == torch.float32 and y.dtype == torch.int64
    assert x.min() >= 0 and x.max() <= 1
    assert [red for red, _, _ in colours(x)] == y.tolist()


def test_no_image_is_in_two_splits(root):
    seen = [tuple(colour) for split in SPLITS for colour in colours(load_tiny_imagenet(split)[0])]
    assert len(seen) == len(set(seen)) == 3 * TRAIN + TEST


@pytest.mark.parametrize("split", SPLITS)
def test_fewer_images_are_the_first_of_all(root, split):
    x, y = load_tiny_imagenet(split)
    few, labels = load_tiny_imagenet(split, 3)
    assert torch.equal(few, x[:3]) and torch.equal(labels, y[:3])
    if split != "test":
        assert labels.tolist() == [0, 1, 2]


def test_grey_pictures_have_three_equal_channels(root):
    path = root / "train" / CLASSES[0] / "images" / f"{CLASSES[0]}_0.JPEG"
    Image.new("L", (64, 64), 80).save(path, "JPEG")
    x, _ = load_tiny_imagenet("train", 1)
    assert colours(x) == [[2, 2, 2]]


def test_fifty_images_of_each_class_are_for_validation():
    assert tiny_imagenet.VALIDATION == 50


@pytest.mark.parametrize("split", SPLITS)
def test_a_missing_copy_is_said_to_be_missing_and_where_it_is_looked_for(monkeypatch, tmp_path, split):
    monkeypatch.setenv("CIMLIB_DATA", str(tmp_path / "chosen"))
    with pytest.raises(DataError, match=f"chosen/{FOLDER}.*unpacked"):
        load_tiny_imagenet(split)
    monkeypatch.delenv("CIMLIB_DATA")
    monkeypatch.setattr(tiny_imagenet, "CACHE", tmp_path / "cache")
    with pytest.raises(DataError, match=f"cache/{FOLDER}"):
        load_tiny_imagenet(split)


def test_a_copy_without_its_list_has_no_test_images(root):
    (root / "val" / "val_annotations.txt").unlink()
    with pytest.raises(DataError, match=r"val_annotations\.txt"):
        load_tiny_imagenet("test")
    assert len(load_tiny_imagenet("train")[1]) == 9


@pytest.mark.parametrize(("split", "size"), [("train", 9), ("val", 6), ("test", 4)])
def test_more_images_than_there_are_and_none_are_refused_with_their_number(root, split, size):
    for n in (0, -1, size + 1):
        with pytest.raises(ValueError, match=f"n = {n} .*1 ≤ n ≤ {size}"):
            load_tiny_imagenet(split, n)


def test_an_unknown_split_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="split = 'all' .*'train', 'val', 'test'"):
        load_tiny_imagenet("all")
