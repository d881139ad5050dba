"""Base classes of the evaluations, one for each task."""

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
from tfface.metrics.bootstrap import Observer, no_observer
from tfface.metrics.tables import Table


class Evaluation(abc.ABC):
    """Computes the metrics of a trained method and example images for reports.

    Args:
        trained: The run.
        client: Client that runs the model's signatures; None: they run in this process.

    Attributes:
        judged_by: Kind of judge, "classifier" or "segmenter"; "": none.
        counts: Default number of people, and the number in a small sample.
        table: Table of metrics for built-in faces.
        real_table: Table of metrics for other data.
        baselines: Text for reports that explains the baselines on built-in faces.
        unmeasured: Text for reports that explains what cannot be measured on other data.
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
        """The client that runs the model's signatures."""
        return self._client or self.trained.client

    @property
    def has_truth(self) -> bool:
        """Whether the ground truth of edits is known, as it is for built-in faces."""
        return self.method.config.data.name == "synthetic"

    def judge(self, cache: Path | None, steps: int | None = None, second: bool = False) -> Any:
        """The judge of the results, an independent classifier or segmenter; None if there is none.

        It is trained on real images only: renders, or those of the run's data set.

        Args:
            cache: Folder where it is cached.
            steps: Its training steps; None: the default of its kind.
            second: Return the second judge instead, of another architecture and seed; there is one
                for classifiers of built-in faces only.
        """
        return None

    @abc.abstractmethod
    def against_truth(
        self, judges: Sequence[Any], count: int, seed: int, observer: Observer = no_observer
    ) -> dict[str, Any]:
        """Metrics on held-out built-in faces, against the ground truth.

        Args:
            judges: No, one or two judges from `judge`.
            count: Number of people.
            seed: Seed that selects the people.
            observer: Receives the evaluated images.
        """

    @abc.abstractmethod
    def without_truth(
        self,
        judge: Any,
        source: Source,
        count: int | None,
        split: str,
        observer: Observer = no_observer,
    ) -> dict[str, Any]:
        """Metrics on a split of another data set, without ground truth of edits.

        Args:
            judge: The judge from `judge`.
            source: The data set.
            count: Number of images; None: the default of the task.
            split: "train", "val" or "test".
            observer: Receives the evaluated images.
        """

    @abc.abstractmethod
    def show(self) -> list[str]:
        """Report sections with images that the client edits or generates from built-in faces."""

    def show_beside(self, other: Evaluation, name: str) -> list[str]:
        """Report sections with the images of this model and of another one.

        Args:
            other: Evaluation of the other model, of the same method.
            name: Name of the other model in the report.
        """
        return [*self.show(), html.section(f"The same with {name}", *other.show())]


class Classified(Evaluation):
    """Evaluation with a classifier of expressions and attributes as the judge."""

    judged_by = "classifier"

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that a classifier of built-in faces predicts besides the expression."""
        return ()

    def judge(
        self, cache: Path | None, steps: int | None = None, second: bool = False
    ) -> classifier.Classifier | None:
        """A classifier; for data other than built-in faces it predicts the labels of the data."""
        options = {"steps": steps or classifier.STEPS, "cache": cache}
        if self.has_truth:
            options |= classifier.SECOND if second else {}
            size = self.method.config.data.size
            return classifier.train_classifier(size, self.attributes, **options)
        if second:
            return None
        return classifier.train_on_images(self.method.evaluation_source(), **options)
