"""What is measured and shown of a task."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from tfface import html
from tfface.client import FaceClient
from tfface.data.base import Source
from tfface.evaluation import classifier
from tfface.evaluation.real_images import COLUMNS, ROWS, UNKNOWN
from tfface.methods.trained import Trained
from tfface.metrics.bootstrap import Watch, unwatched
from tfface.metrics.tables import Table


class Evaluation(abc.ABC):
    """Measures a trained method, and shows what it makes, by its task.

    Args:
        trained: The run.
        client: Answers its signatures; None: in this process.

    Attributes:
        judged_by: What judges the results, "classifier" or "segmenter" of real images; or "".
        counts: How many people are measured, and how many in a small sample.
        table: The table of figures of built-in faces.
        real_table: That of other data.
        baselines: What the figures of built-in faces are compared with, in words.
        unmeasured: What cannot be measured on other data, in words.
    """

    judged_by: ClassVar[str] = ""
    counts: ClassVar[tuple[int, int]]
    table: ClassVar[Table]
    real_table: ClassVar[Table] = COLUMNS, ROWS
    baselines: ClassVar[str]
    unmeasured: ClassVar[str] = UNKNOWN

    def __init__(self, trained: Trained, client: FaceClient | None = None):
        self.trained = trained
        self.method = trained.method
        self._client = client

    @property
    def client(self) -> FaceClient:
        """Answers the run's signatures."""
        return self._client or self.trained.client

    @property
    def has_truth(self) -> bool:
        """Whether results are compared with true renders: on built-in faces."""
        return self.method.config.data.name == "synthetic"

    def judge(self, cache: Path | None, steps: int | None = None, second: bool = False) -> Any:
        """What judges the results; None if there is nothing.

        It has seen real images only: renders, or those of the run's data set.

        Args:
            cache: Folder in which it is kept, and found the next time.
            steps: Its training steps; None: enough.
            second: Another one in its place, with another architecture and seed: a classifier of
                built-in faces only.
        """
        return None

    @abc.abstractmethod
    def against_truth(
        self, judges: Sequence[Any], count: int, seed: int, watch: Watch = unwatched
    ) -> dict[str, Any]:
        """Figures of held-out people among built-in faces.

        Args:
            judges: As of `judge`: none, one, or a second one too.
            count: How many people.
            seed: Which people.
            watch: Is shown what is measured.
        """

    @abc.abstractmethod
    def without_truth(
        self, judge: Any, source: Source, count: int | None, split: str, watch: Watch = unwatched
    ) -> dict[str, Any]:
        """Figures of a split of another data set.

        Args:
            judge: As of `judge`.
            source: The data set.
            count: How many images; None: as many as the figures need.
            split: "train", "val" or "test".
            watch: Is shown what is measured.
        """

    @abc.abstractmethod
    def show(self) -> list[str]:
        """A report's sections with images, of built-in faces that the client edits or makes."""

    def show_beside(self, other: Evaluation, name: str) -> list[str]:
        """The same, and beside it what another model of the method makes.

        Args:
            other: Of the other model.
            name: What the report calls it.
        """
        return [*self.show(), html.section(f"The same by {name}", *other.show())]


class Classified(Evaluation):
    """With classifiers as judges: of the expression, and of attributes."""

    judged_by = "classifier"

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that a classifier of built-in faces tells besides the expression."""
        return ()

    def judge(
        self, cache: Path | None, steps: int | None = None, second: bool = False
    ) -> classifier.Classifier | None:
        """A classifier; of other data than built-in faces of what its images are labelled with."""
        options = {"steps": steps or classifier.STEPS, "cache": cache}
        if self.has_truth:
            options |= classifier.SECOND if second else {}
            size = self.method.config.data.size
            return classifier.train_classifier(size, self.attributes, **options)
        if second:
            return None
        return classifier.train_on_images(self.method.evaluation_source(), **options)
