"""Compares FID, KID and LPIPS with torch-fidelity's and lpips's own code; see docs/measures.md.

In an environment with PyTorch, then in the project's:

    python tests/reference/measures.py write FOLDER
    python tests/reference/measures.py check FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import numpy as np

SETS = {  # Images of each set, features, and the subsets of KID.
    "few images, as many features as InceptionV3": (600, 2048, 500),
    "more images than features": (3000, 256, 1000),
}
SIZE = 64


def features(count: int, dimensions: int) -> list[np.ndarray]:
    """Two sets, correlated and not negative as pooled features are."""
    random = np.random.default_rng(0)
    mixing = random.normal(size=(dimensions, dimensions)) / np.sqrt(dimensions)
    first = np.maximum(random.normal(size=(count, dimensions)) @ mixing, 0)
    second = np.maximum(random.normal(0.1, 1.1, (count, dimensions)) @ mixing + 0.05, 0)
    return [first, second]


def images() -> list[np.ndarray]:
    """Two sets of eight, the second one with noise."""
    random = np.random.default_rng(1)
    first = random.uniform(-1, 1, (8, SIZE // 8, SIZE // 8, 3)).repeat(8, 1).repeat(8, 2)
    second = (first + random.normal(0, 0.2, first.shape)).clip(-1, 1)
    return [np.float32(first), np.float32(second)]


def write(folder: Path) -> None:
    """Writes what the other packages find, and the weights that LPIPS had."""
    # Both packages import torchvision, and what is compared here needs none of it.
    for name in ("", ".datasets", ".models", ".transforms", ".transforms.functional"):
        sys.modules[f"torchvision{name}"] = mock.MagicMock()

    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    found = {}
    for name, (count, dimensions, size) in SETS.items():
        both = [torch.from_numpy(array) for array in features(count, dimensions)]
        statistics = [fid_features_to_statistics(of_one) for of_one in both]
        fid = fid_statistics_to_metric(*statistics, verbose=False)
        kid = kid_features_to_metric(*both, kid_subset_size=size, verbose=False)
        found[name] = [fid["frechet_inception_distance"]] + [
            kid[f"kernel_inception_distance_{key}"] for key in ("mean", "std")
        ]
    np.savez(folder / "found.npz", **found, lpips=_lpips(folder))


def _lpips(folder: Path) -> np.ndarray:
    """By the lpips package, with its published heads and a VGG16 of random weights."""
    import torch

    widths, layers, before = (64, 64, 0, 128, 128, 0, *(256,) * 3, 0, *(512,) * 3, 0), [], 3
    for width in (*widths, *(512,) * 3):
        if width:
            layers += [torch.nn.Conv2d(before, width, 3, padding=1), torch.nn.ReLU()]
            before = width
        else:
            layers.append(torch.nn.MaxPool2d(2))
    torch.manual_seed(0)
    vgg = torch.nn.Module()
    vgg.features = torch.nn.Sequential(*layers)
    for layer in layers:
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
            torch.nn.init.normal_(layer.bias, std=0.1)
    import lpips

    lpips.pretrained_networks.tv.vgg16 = lambda pretrained: vgg
    measure = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    torch.save(vgg.state_dict(), folder / "vgg16.pth")
    heads = Path(lpips.__file__).parent / "weights" / "v0.1" / "vgg.pth"
    (folder / "heads.pth").write_bytes(heads.read_bytes())
    for path in ("vgg16", "heads"):
        state = torch.load(folder / f"{path}.pth", "cpu", weights_only=True)
        np.savez(folder / f"{path}.npz", **{name: value.numpy() for name, value in state.items()})
    both = [torch.from_numpy(batch.transpose(0, 3, 1, 2)) for batch in images()]
    with torch.no_grad():
        return measure(*both).numpy().reshape(-1)


def check(folder: Path) -> None:
    """Prints a table of both figures; raises a SystemExit where they differ."""
    from tfface.evaluation import lpips as module
    from tfface.metrics.distribution import Statistics, frechet_distance, kernel_distance

    expected = np.load(folder / "found.npz")
    rows = []
    for name, (count, dimensions, size) in SETS.items():
        both = []
        for array in features(count, dimensions):
            both.append(Statistics(dimensions))
            for start in range(0, count, 64):
                keys = np.arange(start, min(start + 64, count), dtype=np.uint64)
                both[-1].add(array[start : start + 64], keys)
        kid = kernel_distance(*both, size)
        ours = (frechet_distance(*both), kid["mean"], kid["std"])
        rows += [
            (f"{measure}, {name}", mine, other, 1e-6)
            for measure, mine, other in zip(
                ("FID", "KID mean", "KID std"), ours, expected[name], strict=True
            )
        ]
    # The project's environment may have no PyTorch to read its files with.
    module.read_checkpoint = lambda path: dict(np.load(Path(path).with_suffix(".npz")))
    measure = module.lpips(SIZE, str(folder / "vgg16.pth"), str(folder / "heads.pth"))
    pairs = zip(measure(*images()), expected["lpips"], strict=True)
    rows += [(f"LPIPS, pair {i}", mine, other, 1e-5) for i, (mine, other) in enumerate(pairs)]
    worst = 0.0
    for name, mine, other, tolerance in rows:
        relative = abs(mine - other) / abs(other)
        worst = max(worst, relative / tolerance)
        print(f"{name:60} {mine:.10g}  {other:.10g}  {relative:.1e}")
    if worst > 1:
        raise SystemExit("the figures differ")


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](Path(sys.argv[2]))
