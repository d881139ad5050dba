"""Base class of the data sets: labelled face images, as a pure function of the step."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from tfface.errors import UserError

if TYPE_CHECKING:
    import tensorflow as tf

    from tfface.config import Data

SPLITS = ("train", "val", "test")
SHARD = 2048
"""Default number of images in a file of `tfface.data.shards`."""


class Source(abc.ABC):
    """Labelled face images.

    A training batch is a pure function of (split, seed, batch number), so exact resuming needs no
    saved state: the pipeline just starts at another batch number.

    Args:
        data: Location and size of the images.
        attributes: Names of the binary attributes to load, in the order of the columns of the field
            `attributes`. Empty: the batches have no such field.
        classes: Names of the expression classes to load, in the order of the values of the field
            `expression`. Empty: all classes of the data set.
        fields: Fields to load besides `image`, such as `label_map`; they depend on the subclass.

    Attributes:
        attributes: The requested attributes.
        classes: The requested classes, or all; empty if the data set has no classes.
        share: (number, count): of `count` equal parts of a training batch, the one whose images are
            needed. Those of the others may be zeros instead of being read; labels are complete.

    Raises:
        UserError: The data set does not have a name (the message lists those it has), a folder or
            file is missing, or a split has no images.
    """

    def __init__(
        self,
        data: Data,
        attributes: tuple[str, ...] = (),
        classes: tuple[str, ...] = (),
        fields: tuple[str, ...] = (),
    ):
        self.data = data
        self.attributes = tuple(attributes)
        self.classes = tuple(classes)
        self.fields = tuple(fields)

    share: tuple[int, int] = (0, 1)

    @abc.abstractmethod
    def count(self, split: str) -> int | None:
        """Number of images in a split; None for an endless data set."""

    @abc.abstractmethod
    def batches(
        self,
        split: str,
        batch_size: int,
        *,
        seed: int | None = None,
        start: int = 0,
        where: tuple[str, bool] | None = None,
    ) -> tf.data.Dataset:
        """Batches of one split.

        Args:
            split: "train", "val" or "test".
            batch_size: Images in a batch.
            seed: With a seed: endless batches, reshuffled in every epoch, randomly flipped if
                `data.flip`. None: one pass in a fixed order without flipping, whose last batch may
                be smaller (endless for built-in faces).
            start: Number of the first batch.
            where: (attribute, value): only images that have (True) or lack (False) the attribute.

        Returns:
            A data set of dicts of batched tensors: `image` float32 [B,S,S,3] in [-1,1]; if
            requested `attributes` int32 [B,A] of 0 and 1, `expression` int32 [B], and other fields
            of the data set.

        Raises:
            UserError: There are no matching images.
        """

    def exemplars(
        self,
        split: str,
        batch_size: int,
        *,
        seed: int | None = None,
        start: int = 0,
        paired: float = 1.0,
    ) -> tf.data.Dataset:
        """Batches of images, each with an exemplar that provides the target style.

        A pure function of (split, seed, batch number, paired), like `batches`. Only sources with
        label maps support it.

        Args:
            split: "train", "val" or "test".
            batch_size: Images in a batch.
            seed: As in `batches`.
            start: Number of the first batch.
            paired: Probability that the exemplar matches the image, so that the image is the ground
                truth for its own label map and the exemplar. Other exemplars show someone else.

        Returns:
            A data set of dicts of batched tensors: `image` float32 [B,S,S,3] in [-1,1]; its
            `label_map` int32 [B,S,S] of classes 0 to 18; `exemplar` float32 [B,S,S,3] in [-1,1];
            its `exemplar_label_map` int32 [B,S,S]; `paired` float32 [B] of 0 and 1.

        Raises:
            UserError: The data set has no label maps, or no image in the split.
        """
        raise UserError(
            f"data.name is {self.data.name!r}, which has no label maps; "
            "expected synthetic or celebamask_hq"
        )
