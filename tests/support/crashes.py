"""Trainings that crash in the middle of a step."""

import pytest

from tfface.engine.trainer import Trainer


class Crash(Exception):
    pass


def crash_at(monkeypatch, trainer, number):
    def steps(self, n, batches, original=Trainer.steps):
        if n == number:
            raise Crash
        return original(self, n, batches)

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(Trainer, "steps", steps)
        trainer.train()
