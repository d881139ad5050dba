"""Trainings that crash in the middle of a step."""

import pytest

from tfface.engine.trainer import Trainer


class Crash(Exception):
    pass


def crash_at(monkeypatch, trainer, number):
    def step(self, n, batch, original=Trainer.step):
        if n == number:
            raise Crash
        return original(self, n, batch)

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(Trainer, "step", step)
        trainer.train()
