"""Claims of the papers' abstracts, tested: `python benchmarks/claims.py METHOD`.

Trains both sides of each comparison (`benchmarks/experiments.py`) with several seeds, measures them
on the same held-out built-in faces, and writes figures and intervals to `benchmarks/claims.json`,
and with the verdicts to `docs/claims.md`. Run folders are kept: the same command continues, and
a second call trains nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from common import Cells, block, markdown, replace_block, threads
from experiments import CLAIMS, Claim
from scipy import stats

from tfface.cli import Parser, command, import_tensorflow
from tfface.engine.run import write_text
from tfface.errors import UserError
from tfface.methods import METHODS

ROOT = Path(__file__).parents[1]
MARK = "<!-- claims -->"
LEVEL, POWER = 0.95, 0.8
RESAMPLES = 10_000
_TITLES = {
    "edited/accuracy": "target-expression accuracy",
    "edited/right": "target-attribute accuracy",
    "generated/psnr": "PSNR in dB",
    "segmentation/generated/miou": "mIoU of the re-segmented images",
}
"""Names of metrics for readers."""
SIDES = ("proposed", "control")
"""The two variants of a claim, by the names of its attributes."""


def trained_for(claim: Claim, side: str) -> tuple[Claim, str]:
    """The claim and the side whose trainings a side uses."""
    runs = getattr(claim, side).runs
    if not runs:
        return claim, side
    name, _, side = runs.partition("/")
    (claim,) = (other for other in CLAIMS if (other.method, other.name) == (claim.method, name))
    return claim, side


@dataclasses.dataclass(frozen=True)
class Difference:
    """By how much the control is worse than what the paper proposes.

    Attributes:
        mean: Mean over seeds and people.
        low: Lower end of the 95 % interval.
        high: Its upper end.
        detectable: The difference that would have been told from 0 in 80 % of such experiments.
    """

    mean: float
    low: float
    high: float
    detectable: float

    @property
    def verdict(self) -> str:
        """Whether the claim holds here."""
        if self.low > 0:
            return "holds here"
        return "does not hold here" if self.high < 0 else "inconclusive"


def difference(proposed: np.ndarray, control: np.ndarray) -> Difference:
    """Compares values [seeds,people], where lower is better, of the same seeds and people.

    A hierarchical bootstrap, in pairs: seeds are drawn, and people are drawn, with replacement. As
    percentile intervals of few seeds are too narrow, they are expanded (Hesterberg 2015, "What
    teachers should know about the bootstrap", section 5.2): for n seeds the tails are those of a
    normal distribution beyond sqrt(n / (n - 1)) times Student's quantile.

    Raises:
        ValueError: Other shapes, or fewer than two seeds.
    """
    if proposed.shape != control.shape or len(control) < 2:
        raise ValueError(f"values of shape {proposed.shape} and {control.shape}")
    values = control - proposed
    seeds, people = values.shape
    random = np.random.default_rng(0)
    by_seed = random.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    by_person = random.multinomial(people, np.full(people, 1 / people), RESAMPLES) / people
    means = np.einsum("rs,sp,rp->r", by_seed, values, by_person)
    expansion = np.sqrt(seeds / (seeds - 1))
    quantile = stats.t.ppf((1 + LEVEL) / 2, seeds - 1)
    tail = stats.norm.cdf(-expansion * quantile)
    low, high = np.quantile(means, [tail, 1 - tail])
    error = expansion * means.std()
    return Difference(
        float(values.mean()),
        float(low),
        float(high),
        float(error * (quantile + stats.t.ppf(POWER, seeds - 1))),
    )


# In child processes.


def train(claim: Claim, side: str, seed: int, out: Path) -> None:
    """Trains one side with one seed, unless that was done, measures it, and writes its values."""
    from tfface.train import train_run

    source, of = trained_for(claim, side)
    run, variant = folder_of(out, source, of, seed), getattr(source, of)
    measure = getattr(claim, side).measure or claim.measure
    with variant.patch():
        options = {**source.options, **variant.options, "train.seed": seed}
        trained = train_run(claim.method, run=run, options=options)
        people, also = measure(trained, out / ".cache")
    values = {"people": people.tolist(), "also": also}
    write_text(values_of(out, claim, side, seed), json.dumps(values))


# In the parent process.


def folder_of(out: Path, claim: Claim, side: str, seed: int) -> Path:
    """The run folder of one training."""
    return out / claim.method / claim.name / f"{side}-{seed}"


def values_of(out: Path, claim: Claim, side: str, seed: int) -> Path:
    """The file of what was measured, in the folder of the training."""
    return folder_of(out, *trained_for(claim, side), seed) / f"{claim.name}-{side}.json"


def train_all(claim: Claim, seeds: int, out: Path, jobs: int) -> None:
    """Trains what is missing, `jobs` processes at a time with one thread each."""
    every = [(side, seed) for seed in range(seeds) for side in SIDES]
    missing = [job for job in every if not values_of(out, claim, *job).exists()]
    begin, done = time.monotonic(), 0

    def run(job: tuple[str, int]) -> None:
        nonlocal done
        side, seed = job
        words = [claim.method, "--only", claim.name, "--out", str(out), "--train", side, str(seed)]
        one = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
        process = subprocess.run(
            [sys.executable, __file__, *words],
            env={**os.environ, **one},
            capture_output=True,
            text=True,
        )
        if process.returncode:
            folder = values_of(out, claim, side, seed).parent
            raise UserError(f"{folder}: {process.stderr.strip().splitlines()[-1]}")
        done += 1
        eta = (time.monotonic() - begin) / done * (len(missing) - done)
        name = getattr(claim, side).name
        print(
            f"{claim.method} {claim.name}: {name}, seed {seed} done ({done} of {len(missing)}), "
            f"eta {eta / 60:.0f} min",
            flush=True,
        )

    # The first alone: it trains the judges, which all use.
    for job in missing[:1]:
        run(job)
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, missing[1:]))


def result(claim: Claim, seeds: int, out: Path) -> dict[str, Any]:
    """Compares both sides of a claim, for `claims.json`."""
    found: dict[str, list[dict]] = {
        side: [json.loads(values_of(out, claim, side, seed).read_text()) for seed in range(seeds)]
        for side in SIDES
    }
    values = {side: np.array([v["people"] for v in runs]) for side, runs in found.items()}
    return {
        "seeds": seeds,
        "people": values["control"].shape[1],
        **{side: float(values[side].mean()) for side in values},
        "also": {side: float(np.mean([v["also"] for v in runs])) for side, runs in found.items()},
        **dataclasses.asdict(difference(values["proposed"], values["control"])),
    }


def verdict(found: dict[str, Any]) -> str:
    """The verdict on a recorded claim."""
    fields = [field.name for field in dataclasses.fields(Difference)]
    return Difference(**{name: found[name] for name in fields}).verdict


def tables(recorded: dict[str, dict[str, Any]]) -> str:
    """The page's tables: all verdicts, and for each claim what was claimed, compared and found."""
    summary: Cells = [["claim", "proposed", "control", "difference", "verdict"]]
    texts = []
    for claim in CLAIMS:
        found = recorded.get(f"{claim.method}/{claim.name}")
        if found is None:
            continue
        interval = f"{found['mean']:+.3g} ({found['low']:+.3g} to {found['high']:+.3g})"
        sides = [getattr(claim, side).name for side in SIDES]
        name = f"{claim.method}: {claim.name}"
        summary.append([name, *sides, interval, verdict(found)])
        cells: Cells = [
            ["", claim.unit, _TITLES.get(claim.also, claim.also)],
            *(
                [getattr(claim, side).name, f"{found[side]:.3g} %", f"{found['also'][side]:.3g}"]
                for side in SIDES
            ),
        ]
        texts += [
            f"### {name}\n",
            f"> {claim.quote}\n",
            f"{claim.experiment}\n",
            f"{markdown(cells)}\n",
            f"Difference {found['mean']:+.3g} percentage points ({found['low']:+.3g} to "
            f"{found['high']:+.3g}; detectable {found['detectable']:.2g}); seeds 0 to "
            f"{found['seeds'] - 1}, {found['people']} faces. **Verdict: {verdict(found)}.** "
            f"`python benchmarks/claims.py {claim.method} --only {claim.name}`\n",
        ]
    return "\n".join([f"{markdown(summary)}\n", *texts])


@command
def main(argv: list[str] | None = None) -> int:
    """Tests the claims of one method's paper; returns the exit status."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("method", choices=sorted(METHODS), help="whose paper")
    parser.add_argument("--only", metavar="CLAIM", help="one claim (default: all of the paper)")
    parser.add_argument("--out", default="runs/claims", help="folder of the runs (%(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="trainings per side (%(default)s)")
    parser.add_argument("--jobs", type=int, default=threads(), help="at a time (%(default)s)")
    parser.add_argument("--train", nargs=2, metavar=("SIDE", "SEED"), help="a single training")
    args = parser.parse_args(argv)
    claims = [claim for claim in CLAIMS if claim.method == args.method]
    if args.only:
        names = [claim.name for claim in claims]
        if args.only not in names:
            raise UserError(f"no claim {args.only!r}: expected one of {', '.join(names)}")
        claims = [claim for claim in claims if claim.name == args.only]
    for name, least in (("seeds", 2), ("jobs", 1)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} is {getattr(args, name)}: expected {least} or more")
    out = Path(args.out).resolve()
    if args.train:
        side, seed = args.train
        import_tensorflow()
        (claim,) = claims
        train(claim, side, int(seed), out)
        return 0
    page, record = ROOT / "docs" / "claims.md", ROOT / "benchmarks" / "claims.json"
    block(page, MARK)  # Raises before the work begins.
    for claim in claims:
        train_all(claim, args.seeds, out, args.jobs)
        found = result(claim, args.seeds, out)
        # Read only now: commands for other methods may run beside this one.
        recorded = json.loads(record.read_text()) if record.exists() else {}
        recorded[f"{claim.method}/{claim.name}"] = found
        write_text(record, json.dumps(dict(sorted(recorded.items())), indent=1) + "\n")
        replace_block(page, MARK, tables(recorded))
        print(f"{claim.method} {claim.name}: {found['mean']:+.3g}, {verdict(found)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
