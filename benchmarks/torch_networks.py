"""The networks and losses of the `paper` presets in PyTorch, for `train_step.py` only.

Modules have the names of the Keras layers, so that weights can be copied by name. Images are
[B,C,S,S]. Run as `python torch_networks.py CASE_AS_JSON`: a child process, see `step_worker.py`.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from step_worker import UNITS, Units, fastest, peak_unit, serve, timed
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Network(nn.Module):
    """Modules by name in `self.parts`."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict()

    def conv(self, name: str, inputs: int, filters: int, kernel: int = 3, stride: int = 1, **more):
        """Adds a convolution; its padding is that of Keras's "same"."""
        padding = (kernel - 1) // 2
        self.parts[name] = nn.Conv2d(inputs, filters, kernel, stride, padding, **more)

    def norm(self, name: str, channels: int):
        """Adds an instance normalisation with an affine transform."""
        self.parts[name] = nn.InstanceNorm2d(channels, affine=True)


def with_label(image, label):
    """Concatenates a label [B,N] to every pixel."""
    label = label.to(image.dtype)[:, :, None, None]
    return torch.cat([image, label.expand(-1, -1, *image.shape[2:])], 1)


def twice(x):
    """Nearest-neighbour up-sampling to twice the side."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


class SarganGenerator(Network):
    """SARGAN's generator: `tfface.methods.sargan.networks.Generator`."""

    def __init__(self, classes: int, width: int = 64, attention: int = 64):
        super().__init__()
        self._unit("head", 3 + classes, width, 7, 1)
        self._unit("down1", width, 2 * width, 4, 2)
        self._unit("down2", 2 * width, 4 * width, 4, 2)
        core = 4 * width
        self._reflect("sarb_conv1", core, core)
        self._reflect("sarb_conv2", core, core)
        for level, inputs in ((2, core), (1, attention)):
            self._reflect(f"sarb_sedn_b1_{level}", inputs, attention)
            self._reflect(f"sarb_sedn_b2_{level}", inputs, attention, 2)
            self._reflect(f"sarb_sedn_b3_{level}", attention, attention)
        self._reflect("sarb_sedn_b2_plus_1", attention, attention)
        self.conv("attention", attention, 1, padding_mode="reflect")
        for name, inputs, filters in (("up1", core, 2 * width), ("up2", 2 * width, width)):
            self.parts[f"{name}_conv"] = nn.ConvTranspose2d(inputs, filters, 4, 2, 1, bias=False)
            self.norm(f"{name}_norm", filters)
        self.conv("tail_conv", width, 3, 7, bias=False)

    def _unit(self, name, inputs, filters, kernel, stride):
        self.conv(f"{name}_conv", inputs, filters, kernel, stride, bias=False)
        self.norm(f"{name}_norm", filters)

    def _reflect(self, name, inputs, filters, stride=1):
        self.conv(
            f"{name}_conv", inputs, filters, stride=stride, bias=False, padding_mode="reflect"
        )
        self.norm(f"{name}_norm", filters)

    def _run(self, name, x, relu=True):
        x = self.parts[f"{name}_norm"](self.parts[f"{name}_conv"](x))
        return F.relu(x) if relu else x

    def _sedn(self, x, level):
        full = self._run(f"sarb_sedn_b1_{level}", x)
        low = self._run(f"sarb_sedn_b2_{level}", x)
        low = self._sedn(low, 1) if level > 1 else self._run("sarb_sedn_b2_plus_1", low)
        return full + self._run(f"sarb_sedn_b3_{level}", twice(low))

    def forward(self, image, label):
        """The edited image."""
        x = with_label(image, label)
        for name in ("head", "down1", "down2"):
            x = self._run(name, x)
        residual = self._run("sarb_conv2", self._run("sarb_conv1", x), relu=False)
        attention = torch.sigmoid(self.parts["attention"](self._sedn(residual, 2)))
        x = x + residual * attention
        for name in ("up1", "up2"):
            x = self._run(name, x)
        return image + torch.tanh(self.parts["tail_conv"](x)).float()


class SarganDiscriminator(Network):
    """StarGAN's discriminator: `tfface.layers.discriminator.Discriminator`."""

    def __init__(self, size: int, classes: int, width: int = 64, layers: int = 6):
        super().__init__()
        self.depth, inputs = layers, 3
        for i in range(layers):
            self.conv(f"down{i + 1}_conv", inputs, width * 2**i, 4, 2)
            inputs = width * 2**i
        self.conv("realness", inputs, 1, bias=False)
        self.parts["logits"] = nn.Conv2d(inputs, classes, size // 2**layers, bias=False)

    def forward(self, x):
        """Realness map and logits."""
        for i in range(self.depth):
            x = F.leaky_relu(self.parts[f"down{i + 1}_conv"](x), 0.01)
        return self.parts["realness"](x).float(), self.parts["logits"](x).flatten(1).float()


class ChannelNorm(nn.Module):
    """ELEGANT's normalisation over channels, with a scalar gain and shift."""

    def __init__(self):
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x):
        """Normalises."""
        return (F.normalize(x.float(), dim=1) * self.alpha + self.beta).to(x.dtype)


class ElegantEncoder(Network):
    """ELEGANT's encoder; also the convolutions of its discriminator."""

    def __init__(self, inputs: int = 3, widths: tuple[int, ...] = (64, 128, 256, 512, 512)):
        super().__init__()
        self.depth = len(widths)
        for i, filters in enumerate(widths, 1):
            self.conv(f"down{i}_conv", inputs, filters, stride=2)
            self.parts[f"down{i}_norm"] = ChannelNorm()
            inputs = filters

    def forward(self, x):
        """Features of all levels."""
        features = []
        for i in range(1, self.depth + 1):
            x = F.leaky_relu(self.parts[f"down{i}_norm"](self.parts[f"down{i}_conv"](x)), 0.2)
            features.append(x)
        return features


class ElegantDecoder(Network):
    """ELEGANT's decoder: new and own code, and skips, to a residual in [-2,2]."""

    def __init__(self):
        super().__init__()
        for i, (inputs, filters) in enumerate(
            [(1024, 512), (512, 256), (256, 128), (128, 64), (64, 3)], 1
        ):
            self.parts[f"up{i}_conv"] = nn.ConvTranspose2d(inputs, filters, 3, 2, 1, 1)
            if i < 5:
                self.parts[f"up{i}_norm"] = ChannelNorm()

    def forward(self, new, own, skips):
        """The residual."""
        x = torch.cat([new, own], 1)
        for i, skip in enumerate(reversed(skips), 1):
            x = F.relu(self.parts[f"up{i}_norm"](self.parts[f"up{i}_conv"](x))) + skip
        return 2.0 * torch.tanh(self.parts["up5_conv"](x).float())


class ElegantDiscriminator(ElegantEncoder):
    """ELEGANT's discriminator of an image and its attributes."""

    def __init__(self, size: int, attributes: int):
        super().__init__(3 + attributes, (64, 128, 256, 512))
        self.parts["logit"] = nn.Linear(512 * (size // 16) ** 2, 1)

    def forward(self, image, label):
        """Logits [B,1]."""
        x = super().forward(with_label(image, label))[-1]
        with torch.autocast("cpu", enabled=False):
            return self.parts["logit"](x.flatten(1).float())


class AdaIN(nn.Module):
    """Adaptive instance normalisation."""

    def __init__(self, channels: int, style: int):
        super().__init__()
        self.norm, self.affine = nn.InstanceNorm2d(channels), nn.Linear(style, 2 * channels)

    def forward(self, x, style):
        """Normalises and modulates."""
        gamma, beta = self.affine(style)[:, :, None, None].chunk(2, 1)
        return self.norm(x) * (1.0 + gamma) + beta


class MaskGuidedGenerator(Network):
    """The generator of mask_guided with the injection "encoder"."""

    widths = (64, 128, 256, 512, 512)

    def __init__(self, classes: int, style: int):
        super().__init__()
        self.conv("start", classes, 64)
        blocks = [(f"down{i}", self.widths[i], self.widths[i + 1]) for i in range(4)]
        blocks += [(f"core{i}", 512, 512) for i in range(2)]
        for name, inputs, filters in blocks:
            self._shortcut(name, inputs, filters)
            for i, channels in enumerate((inputs, filters)):
                self.norm(f"{name}_norm{i}", inputs)
                self.conv(f"{name}_conv{i}", inputs, channels)
        styled = [(f"styled{i}", 512, 512) for i in range(2)]
        styled += [(f"up{i}", self.widths[4 - i], self.widths[3 - i]) for i in range(4)]
        for name, inputs, filters in styled:
            self._shortcut(name, inputs, filters)
            for i, channels in enumerate((inputs, filters)):
                self.parts[f"{name}_adain{i}"] = AdaIN(channels, style)
                self.conv(f"{name}_{i}_conv", channels, filters)
        self.norm("last_norm", 64)
        self.conv("last", 64, 3, 1)
        self._blocks, self._styled = [b[0] for b in blocks], [s[0] for s in styled]

    def _shortcut(self, name, inputs, filters):
        if inputs != filters:
            self.conv(f"{name}_shortcut", inputs, filters, 1, bias=False)

    def _begin(self, name, x):
        return self.parts[f"{name}_shortcut"](x) if f"{name}_shortcut" in self.parts else x

    def forward(self, label_map, style):
        """The image."""
        x = self.parts["start"](label_map)
        for name in self._blocks:
            shortcut = self._begin(name, x)
            for i in range(2):
                x = F.leaky_relu(self.parts[f"{name}_norm{i}"](x), 0.2)
                x = self.parts[f"{name}_conv{i}"](x)
                if i == 0 and name.startswith("down"):
                    x, shortcut = F.avg_pool2d(x, 2), F.avg_pool2d(shortcut, 2)
            x = (x + shortcut) * 2**-0.5
        for name in self._styled:
            shortcut = self._begin(name, x)
            for i in range(2):
                x = self.parts[f"{name}_adain{i}"](x, style)
                if i == 0 and name.startswith("up"):
                    x, shortcut = twice(x), twice(shortcut)
                x = self.parts[f"{name}_{i}_conv"](F.leaky_relu(x, 0.2))
            x = (x + shortcut) * 2**-0.5
        return self.parts["last"](F.leaky_relu(self.parts["last_norm"](x), 0.2)).float()


class GlobalGenerator(Network):
    """The global generator of seg_hierarchical."""

    def __init__(self, classes: int, regions: int, width: int = 64, blocks: int = 6):
        super().__init__()
        self.blocks, core = blocks, 4 * width
        units = [("head", 3 + regions, width, 7, 1), ("down1", width, 2 * width, 4, 2)]
        units += [("down2", 2 * width, core, 4, 2)]
        units += [(f"block{i}{ab}", core, core, 3, 1) for i in range(1, blocks + 1) for ab in "ab"]
        for name, inputs, filters, kernel, stride in units:
            self.conv(f"{name}_conv", inputs, filters, kernel, stride, bias=False)
            self.norm(f"{name}_norm", filters)
        for name, inputs, filters in (("up1", core, 2 * width), ("up2", 2 * width, width)):
            self.parts[f"{name}_conv"] = nn.ConvTranspose2d(inputs, filters, 4, 2, 1, bias=False)
            self.norm(f"{name}_norm", filters)
            self.parts[f"{name}_label"] = nn.Linear(classes, filters, bias=False)
        for i in range(1, blocks + 1):
            self.parts[f"block{i}a_label"] = nn.Linear(classes, core, bias=False)
        self.conv("residual_conv", width, 3, 7, bias=False)

    def _run(self, name, x, label=None, relu=True):
        x = self.parts[f"{name}_norm"](self.parts[f"{name}_conv"](x))
        if label is not None:
            x = x + self.parts[f"{name}_label"](label)[:, :, None, None]
        return F.relu(x) if relu else x

    def forward(self, image, label, masks):
        """The edited image."""
        x = torch.cat([image, masks], 1)
        for name in ("head", "down1", "down2"):
            x = self._run(name, x)
        for i in range(1, self.blocks + 1):
            x = x + self._run(f"block{i}b", self._run(f"block{i}a", x, label), relu=False)
        for name in ("up1", "up2"):
            x = self._run(name, x, label)
        t = torch.tanh(self.parts["residual_conv"](x).float())
        return image + t - t.abs() * image


class Case:
    """A case: networks with copied weights, losses, and what inference runs.

    Args:
        arrays: What `step_worker.py` wrote: weights, batch and reference values.
        form: "eager", "channels_last" or "compile".
        autocast: Whether to compute in bfloat16.

    Attributes:
        nets: Networks by name; those that are called may be compiled.
    """

    def __init__(self, arrays: dict[str, np.ndarray], form: str, autocast: bool):
        self.form, self._autocast = form, autocast
        self.batch = {
            k.removeprefix("batch:"): self._tensor(v) for k, v in arrays.items() if "batch:" in k
        }
        self.plain = self.build()
        for key, array in arrays.items():
            if key.startswith("weights:"):
                _, name, path = key.split(":")
                assign(self.plain[name], path, array)
        if form == "channels_last":
            self.plain = {k: n.to(memory_format=torch.channels_last) for k, n in self.plain.items()}
        compiled = torch.compile if form == "compile" else lambda net, **_: net
        self.nets = {name: compiled(net, dynamic=False) for name, net in self.plain.items()}
        self.optimizers = {
            name: torch.optim.Adam(
                self.parameters(names), lr=1e-6, betas=(0.5, 0.999), fused=True, weight_decay=decay
            )
            for name, (names, decay) in self.updates.items()
        }

    updates: dict[str, tuple[tuple[str, ...], float]] = {}
    """By phase: names of the networks that it updates, and coupled weight decay."""

    def _tensor(self, array):
        tensor = torch.from_numpy(array)
        if tensor.ndim == 4 and tensor.shape[-1] > 1:
            tensor = tensor.permute(0, 3, 1, 2)
            last = self.form == "channels_last"
            tensor = tensor.contiguous(
                memory_format=torch.channels_last if last else torch.contiguous_format
            )
        return tensor

    def autocast(self):
        """The context of forward passes."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self._autocast)

    def parameters(self, names):
        """Parameters of networks."""
        return [p for name in names for p in self.plain[name].parameters()]

    def update(self, phase: str):
        """Gradients and Adam update of a phase."""
        parameters = self.parameters(self.updates[phase][0])
        with self.autocast():
            loss = getattr(self, phase)()
        for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            p.grad = g
        self.optimizers[phase].step()

    def steps(self) -> dict[str, Callable]:
        """The training steps by unit."""
        raise NotImplementedError

    def infer(self, count: int):
        """Inference on `count` images."""
        raise NotImplementedError

    def values(self) -> dict[str, torch.Tensor]:
        """Values to compare with the reference."""
        return {phase: getattr(self, phase)() for phase in self.updates}

    def first(self, name: str, count: int):
        """An entry of the batch with `count` examples, repeated as needed."""
        value = self.batch[name]
        return torch.cat([value] * -(-count // len(value)))[:count]


class Sargan(Case):
    """SARGAN: StarGAN's losses with WGAN-GP."""

    updates = {"discriminator": (("discriminator",), 0.0), "generator": (("generator",), 0.0)}

    def build(self):
        """New networks."""
        size, classes = self.batch["image"].shape[-1], self.batch["label"].shape[-1]
        return {
            "generator": SarganGenerator(classes),
            "discriminator": SarganDiscriminator(size, classes),
        }

    def _generate(self, image, expression):
        classes = self.batch["label"].shape[-1]
        return self.nets["generator"](image, F.one_hot(expression.long(), classes).float())

    def discriminator(self):
        """Loss of the discriminator."""
        b, real = self.batch, self.batch["image"]
        with torch.no_grad():
            fake = self._generate(real, b["target"])
        maps, logits = self.nets["discriminator"](torch.cat([real, fake]))
        count = len(real)
        mixed = (b["alpha"] * real + (1.0 - b["alpha"]) * fake).requires_grad_()
        # torch.compile has no second derivatives.
        realness, _ = self.plain["discriminator"](mixed)
        (gradient,) = torch.autograd.grad(realness.sum(), mixed, create_graph=True)
        norm = (gradient.square().sum((1, 2, 3)) + 1e-12).sqrt()
        return (
            -maps[:count].mean()
            + maps[count:].mean()
            + F.cross_entropy(logits[:count], b["expression"].long())
            + 10.0 * (norm - 1.0).square().mean()
        )

    def generator(self):
        """Loss of the generator."""
        b, real = self.batch, self.batch["image"]
        fake = self._generate(real, b["target"])
        realness, logits = self.nets["discriminator"](fake)
        cycled = self._generate(fake, b["expression"])
        return (
            -realness.mean()
            + F.cross_entropy(logits, b["target"].long())
            + (real - cycled).abs().mean()
        )

    def steps(self):
        """The discriminator's step, and one that both networks have."""
        first, both = UNITS["sargan"]
        return {
            first: lambda: self.update("discriminator"),
            both: lambda: (self.update("discriminator"), self.update("generator")),
        }

    def infer(self, count):
        """Edited images."""
        return self.nets["generator"](self.first("image", count), self.first("label", count))


class Elegant(Case):
    """ELEGANT: reconstruction and two conditional discriminators."""

    updates = {
        "discriminator": (("disc1", "disc2"), 1e-5),
        "generator": (("encoder", "decoder"), 1e-5),
    }

    def build(self):
        """New networks."""
        size, n = self.batch["A"].shape[-1], self.batch["y_A"].shape[-1]
        return {
            "encoder": ElegantEncoder(),
            "decoder": ElegantDecoder(),
            "disc1": ElegantDiscriminator(size, n),
            "disc2": ElegantDiscriminator(size // 2, n),
        }

    def _mask(self, channels):
        n = self.batch["y_A"].shape[-1]
        ends = np.rint(np.arange(n + 1) * channels / n).astype(int)
        table = torch.zeros(n, channels)
        for i in range(n):
            table[i, ends[i] : ends[i + 1]] = 1.0
        return table

    def _generate(self):
        a, b = self.batch["A"], self.batch["B"]
        *skips_a, z_a = self.nets["encoder"](a)
        *skips_b, z_b = self.nets["encoder"](b)
        mask = self._mask(z_a.shape[1])[self.batch["attribute"].long()][:, :, None, None]
        mask = mask.to(z_a.dtype)
        z_c, z_d = z_a + mask * (z_b - z_a), z_b + mask * (z_a - z_b)
        skips = [torch.cat([s, t, s, t]) for s, t in zip(skips_a, skips_b, strict=True)]
        new, own = torch.cat([z_a, z_b, z_c, z_d]), torch.cat([z_a, z_b, z_a, z_b])
        residuals = self.nets["decoder"](new, own, skips)
        return (torch.cat([a, b, a, b]) + residuals).clamp(-1.0, 1.0).chunk(4)

    def _exchanged(self):
        y_a, y_b = self.batch["y_A"], self.batch["y_B"]
        hot = F.one_hot(self.batch["attribute"].long(), y_a.shape[-1])
        return y_a + hot * (y_b - y_a), y_b + hot * (y_a - y_b)

    def _discriminate(self, images, labels):
        image, label = torch.cat(images), torch.cat(labels)
        half = F.avg_pool2d(image, 2)
        logits = self.nets["disc1"](image, label), self.nets["disc2"](half, label)
        return [values.chunk(len(images)) for values in logits]

    def discriminator(self):
        """Loss of both discriminators."""
        with torch.no_grad():
            *_, c, d = self._generate()
        b = self.batch
        logits = self._discriminate(
            [b["A"], b["B"], c, d], [b["y_A"], b["y_B"], *self._exchanged()]
        )
        full, half = (_bce(v[0], 1) + _bce(v[1], 1) + _bce(v[2], 0) + _bce(v[3], 0) for v in logits)
        return (full + 0.5 * half) / 4.0

    def generator(self):
        """Loss of encoder and decoder."""
        a1, b1, c, d = self._generate()
        full, half = (
            _bce(v[0], 1) + _bce(v[1], 1) for v in self._discriminate([c, d], self._exchanged())
        )
        rec = F.mse_loss(a1, self.batch["A"]) + F.mse_loss(b1, self.batch["B"])
        return 5.0 * rec + full + 0.5 * half

    def steps(self):
        """Discriminators, then encoder and decoder."""
        (unit,) = UNITS["elegant"]
        return {unit: lambda: (self.update("discriminator"), self.update("generator"))}

    def infer(self, count):
        """The first image with the attribute of the second."""
        a, b = self.first("A", count), self.first("B", count)
        *skips, own = self.nets["encoder"](a)
        other = self.nets["encoder"](b)[-1]
        mask = self._mask(own.shape[1])[self.first("attribute", count).long()][:, :, None, None]
        code = own + mask.to(own.dtype) * (other - own)
        return (a + self.nets["decoder"](code, own, skips)).clamp(-1.0, 1.0)


def _bce(logits, real):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, real))


class _Generator(Case):
    """A generator with an L1 loss, forward and backward."""

    inputs: tuple[str, ...]
    method: str

    def generator(self):
        """The L1 loss."""
        generated = self.nets["generator"](*(self.batch[name] for name in self.inputs))
        return (generated - self.batch["image"]).abs().mean()

    def values(self):
        """The loss."""
        return {"generator": self.generator()}

    def steps(self):
        """Forward and backward."""

        def run():
            with self.autocast():
                loss = self.generator()
            torch.autograd.grad(loss, self.parameters(["generator"]))

        (unit,) = UNITS[self.method]
        return {unit: run}

    def infer(self, count):
        """Generated images."""
        return self.nets["generator"](*(self.first(name, count) for name in self.inputs))


class MaskGuided(_Generator):
    """The generator of mask_guided."""

    inputs, method = ("label_map", "style"), "mask_guided"

    def build(self):
        """The network."""
        classes, style = self.batch["label_map"].shape[1], self.batch["style"].shape[1]
        return {"generator": MaskGuidedGenerator(classes, style)}


class SegHierarchical(_Generator):
    """The global generator of seg_hierarchical."""

    inputs, method = ("image", "label", "masks"), "seg_hierarchical"

    def build(self):
        """The network."""
        classes, regions = self.batch["label"].shape[1], self.batch["masks"].shape[1]
        return {"generator": GlobalGenerator(classes, regions)}


CASES = {
    "sargan": Sargan,
    "elegant": Elegant,
    "mask_guided": MaskGuided,
    "seg_hierarchical": SegHierarchical,
}


def assign(net: nn.Module, path: str, array: np.ndarray) -> None:
    """Copies a Keras weight to the module of the same name."""
    layer, _, name = path.rpartition("/")
    module = net.get_submodule("parts." + layer.replace("/", "."))
    names = {"kernel": "weight", "gamma": "weight", "bias": "bias", "alpha": "alpha"}
    names["beta"] = "beta" if isinstance(module, ChannelNorm) else "bias"
    array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    with torch.no_grad():
        target = getattr(module, names[name])
        if target.shape != array.shape:
            raise ValueError(f"{path}: {array.shape} instead of {tuple(target.shape)}")
        target.copy_(torch.from_numpy(array.copy()))


class Counter(TorchDispatchMode):
    """Counts the floating-point operations of convolutions and matrix products in its block.

    A multiplication and an addition are two. (`FlopCounterMode` fails within `autograd.grad`.)
    """

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Runs an operation and counts it."""
        result = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def counted(run: Callable) -> int:
    """Floating-point operations of a call."""
    with Counter() as counter:
        run()
    return counter.total


def main() -> None:
    """Serves a case."""
    options = json.loads(sys.argv[1])
    torch.set_num_threads(options["threads"])
    with np.load(options["exchange"]) as file:
        arrays = dict(file)
    bfloat16 = options["precision"] == "mixed_bfloat16"
    _, method = options["case"].split("/")
    case = CASES[method](arrays, options["form"], bfloat16)
    steps = case.steps()
    inference = {f"inference, batch {n}": functools.partial(case.infer, n) for n in (1, 8)}
    notes = {"torch": torch.__version__}
    if options["checks"]:
        notes["difference"] = max(
            abs(value.item() / arrays[f"value:{name}"].item() - 1.0)
            for name, value in case.values().items()
        )
        notes["flop"] = {unit: counted(run) for unit, run in {**steps, **inference}.items()}

    def infer(run):
        with torch.inference_mode(), case.autocast():
            return fastest(run)

    units: Units = {
        unit: (UNITS[method][unit], functools.partial(timed, run)) for unit, run in steps.items()
    }
    units |= {unit: (0.0, functools.partial(infer, run)) for unit, run in inference.items()}
    kind = torch.bfloat16 if bfloat16 else torch.float32
    units |= peak_unit(lambda n: torch.rand(n, n).to(kind), torch.matmul)
    serve(units, notes)


if __name__ == "__main__":
    main()
