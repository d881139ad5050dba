"""What a data set offers to the methods: labelled face images, as a pure function of the step."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from tfface.errors import UserError

if TYPE_CHECKING:
    import tensorflow as tf

    from tfface.config import Data

SPLITS = ("train", "val", "test")


class Source(abc.ABC):
    """Labelled face images.

    A training batch is a pure function of (split, seed, batch number): nothing needs to be saved
    for an exact resume, the pipeline is simply started at another batch number.

    Args:
        data: Where the images are and how large they are wanted.
        attributes: Names of the binary attributes wanted, in the order of the columns of the field
            `attributes`. Empty: the batches have no such field.
        classes: Names of the expression classes wanted, in the order of the values of the field
            `expression`. Empty: all that the data set has.
        fields: Fields wanted besides `image`; those listed in a subclass's `fields`.

    Attributes:
        attributes: As given, checked.
        classes: As given or found; empty if the data set has no classes.

    Raises:
        UserError: A name that the data set does not have (the message lists those it has), a
            missing folder or file, a split without images.
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

    @abc.abstractmethod
    def count(self, split: str) -> int | None:
        """Number of images in a split; None when there is no end of them."""

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
            seed: With a seed: endless, shuffled anew in every epoch, flipped at random if
                `data.flip`. Without: in a fixed order and as they are; one pass, whose last batch
                may be smaller (endless for built-in faces).
            start: Number of the first batch.
            where: (attribute, value): only images that have (True) or lack (False) the attribute.

        Returns:
            A data set of dicts of batched tensors: `image` float32 [B,S,S,3] in [-1,1]; as far as
            wanted `attributes` int32 [B,A] of 0 and 1, `expression` int32 [B], and what else the
            data set offers.

        Raises:
            UserError: No image answers the description.
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
        """Batches of images, each with an exemplar whose style it is to take on.

        A pure function of (split, seed, batch number, paired), as `batches` is. Only sources with
        label maps have them.

        Args:
            split: "train", "val" or "test".
            batch_size: Images in a batch.
            seed: As in `batches`.
            start: Number of the first batch.
            paired: Probability that the exemplar fits, so that the image is what a perfect method
                makes of its own label map and the exemplar. The others are of somebody else.

        Returns:
            A data set of dicts of batched tensors: `image` float32 [B,S,S,3] in [-1,1]; its
            `label_map` int32 [B,S,S] of classes 0 to 18; `exemplar` float32 [B,S,S,3] in [-1,1];
            its `exemplar_label_map` int32 [B,S,S]; `paired` float32 [B] of 0 and 1.

        Raises:
            UserError: The data set has no label maps, or no image in the split.
        """
        raise UserError(
            f"data.name is {self.data.name!r}, which has no label maps; "
            "those that have are synthetic and celebamask_hq"
        )
