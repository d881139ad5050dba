"""The models that are served, by name."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator

import grpc
from tensorflow_serving.apis import model_pb2

from tfface.server.saved_model import SavedModel
from tfface.server.status import ServingError, invalid
from tfface.server.versions import Model, State, not_found

logger = logging.getLogger("tfface.server")


class Models:
    """The models that are served.

    Args:
        models: Each with a name of its own.
    """

    def __init__(self, models: Iterable[Model]):
        self._by_name = {model.name: model for model in models}

    def __iter__(self) -> Iterator[Model]:
        return iter(list(self._by_name.values()))

    def __getitem__(self, name: str) -> Model:
        return self._by_name[name]

    @contextlib.contextmanager
    def use(self, spec: model_pb2.ModelSpec) -> Iterator[tuple[int, SavedModel]]:
        """Holds the version that a request asks for while it runs.

        Args:
            spec: The request's.

        Yields:
            The version's number and the loaded model.

        Raises:
            ServingError: There is none such, with TF Serving's answer.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        if spec.WhichOneof("version_choice") == "version_label":
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        number = _version(spec)
        if spec.name not in self._by_name:
            raise not_found(spec.name, number)
        with self._by_name[spec.name].use(number) as used:
            yield used

    def status(self, spec: model_pb2.ModelSpec) -> dict[int, tuple[State, ServingError | None]]:
        """State of every version ever seen, or of the one asked for; newest first.

        Raises:
            ServingError: NOT_FOUND.
        """
        name, number = spec.name, _version(spec)
        found = self._by_name[name].status() if name in self._by_name else {}
        if number is not None:
            if number not in found:
                raise ServingError(
                    grpc.StatusCode.NOT_FOUND, f"Could not find version {number} of model {name}"
                )
            return {number: found[number]}
        if not found:
            raise ServingError(
                grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {name}"
            )
        return found

    def update(self) -> None:
        """Looks for new and removed versions of every model; never fails."""
        for model in self:
            try:
                model.update()
            except Exception:  # the next look may find things in order again
                logger.exception("model %s: looking for new versions failed", model.name)

    def close(self) -> None:
        """Unloads everything once it is no longer used."""
        for model in self:
            model.close()


def _version(spec: model_pb2.ModelSpec) -> int | None:
    """The version asked for; one that is set to 0 is version 0, not the newest."""
    return spec.version.value if spec.HasField("version") else None
