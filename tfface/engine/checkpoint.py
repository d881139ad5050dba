"""Checkpoints: networks, averaged weights, optimisers and the step, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from tfface.errors import UserError


def _variables(owner) -> list[tf.Variable]:
    # Raw variables in a fixed order: also those that Keras does not show to TensorFlow's tracking,
    # such as the states of its seed generators.
    return [v.value for v in owner.variables]


class Checkpoints:
    """Saves and restores.

    Args:
        folder: Where the checkpoints are.
        nets: Networks by name.
        averages: Averaged networks by name.
        optimizers: Optimisers by name; None when only the networks are wanted.
        keep: How many to keep.
    """

    def __init__(
        self,
        folder: Path,
        nets: dict[str, keras.Model],
        averages: dict[str, keras.Model],
        optimizers: dict[str, keras.Optimizer] | None = None,
        keep: int = 1,
    ):
        self.folder = folder
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        parts = {
            "nets": {name: _variables(net) for name, net in nets.items()},
            "averages": {name: _variables(net) for name, net in averages.items()},
        }
        if optimizers is not None:
            parts["optimizers"] = {name: _variables(o) for name, o in optimizers.items()}
        self._whole = optimizers is not None
        self._checkpoint = tf.train.Checkpoint(step=self.step, **parts)
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(folder), max_to_keep=keep, checkpoint_name="step"
        )

    def steps(self) -> list[int]:
        """Steps of the checkpoints there are."""
        return [int(path.rpartition("-")[2]) for path in self._manager.checkpoints]

    def save(self, step: int) -> None:
        """Saves; an earlier checkpoint stays until this one is complete."""
        self.step.assign(step)
        self._manager.save(checkpoint_number=step)

    def restore(self, step: int | None = None) -> int:
        """Restores the newest checkpoint, or that of a step.

        Returns:
            Its step; 0 when there is none and none was named.

        Raises:
            UserError: No such checkpoint, a damaged one, or one of other networks.
        """
        steps = self.steps()
        if step is None and not steps:
            if found := sorted(path.name for path in self.folder.glob("step-*")):
                raise UserError(
                    f"{self.folder}/checkpoint is missing or damaged, but there are "
                    f"{', '.join(found)}; remove these to begin anew"
                )
            return 0
        if step is not None and step not in steps:
            raise UserError(
                f"{self.folder} has no checkpoint of step {step}; "
                f"it has {', '.join(map(str, steps)) or 'none'}"
            )
        path = f"{self.folder}/step-{steps[-1] if step is None else step}"
        try:
            status = self._checkpoint.restore(path)
            if self._whole:
                status.assert_consumed()
            else:
                status.assert_existing_objects_matched().expect_partial()
        except (tf.errors.OpError, AssertionError, ValueError, IndexError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise UserError(
                f"{path}: cannot be restored: damaged, or of other networks: {reason}"
            ) from error
        return int(self.step.numpy())
