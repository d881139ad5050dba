"""The models that are served, by name."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Collection, Iterator, Mapping

import grpc
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from tfface.errors import UserError
from tfface.server.config import ModelConfig, Options, to_models
from tfface.server.saved_model import SavedModel
from tfface.server.status import ServingError, invalid
from tfface.server.versions import Model, State, not_found

logger = logging.getLogger("tfface.server")


class Models:
    """The models that are served; none at first.

    Args:
        options: The server's.
    """

    def __init__(self, options: Options):
        self._options = options
        self._by_name: dict[str, Model] = {}  # Also those that are no longer served.
        self._labels: dict[str, Mapping[str, int]] = {}
        self._changing = threading.Lock()

    def __iter__(self) -> Iterator[Model]:
        return iter([model for model in self._by_name.values() if model.config is not None])

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
        number = self._version(spec)
        if spec.name not in self._by_name:
            raise not_found(spec.name, number)
        with self._by_name[spec.name].use(number) as used:
            yield used

    def status(self, spec: model_pb2.ModelSpec) -> dict[int, tuple[State, ServingError | None]]:
        """State of every version ever seen, or of the one asked for; newest first.

        Raises:
            ServingError: NOT_FOUND, or INVALID_ARGUMENT: no such label.
        """
        name, number = spec.name, self._version(spec)
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

    def reload(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Carries out a HandleReloadConfigRequest; see `configure`.

        Raises:
            ServingError: Also INVALID_ARGUMENT: a list that cannot be served.
        """
        if config.WhichOneof("config") != "model_config_list":
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        try:
            models = to_models(config.model_config_list, {model.name for model in self})
        except UserError as error:
            raise invalid(str(error)) from error
        self.configure(models)

    def configure(self, configs: Collection[ModelConfig]) -> None:
        """Serves these models and no others; returns when the new ones are available.

        Args:
            configs: Each with a name of its own.

        Raises:
            ServingError: FAILED_PRECONDITION: a label may not point where it does; nothing has
                changed. UNKNOWN: new models did not become available; they are tried again.
        """
        with self._changing:
            self._check_labels(configs)
            before = {model.name for model in self}
            wanted = {config.name: config for config in configs}
            new = {name: Model(config, self._options) for name, config in wanted.items()}
            self._by_name = new | self._by_name
            for name, model in self._by_name.items():
                model.config = wanted.get(name)
            self._labels = {name: config.labels for name, config in wanted.items()}
            self._update()
            failed = [m for m in self if m.name not in before and not m.available()]
        if failed:
            reasons = "".join(f"{{{_failure(model)}}}, " for model in failed)
            raise ServingError(
                grpc.StatusCode.UNKNOWN,
                f"{len(failed)} model(s) did not become available: {{{reasons}}}",
            )

    def update(self) -> None:
        """Looks for new and removed versions of every model; never fails."""
        with self._changing:
            self._update()

    def close(self) -> None:
        """Unloads everything once it is no longer used."""
        with self._changing:
            for model in self._by_name.values():
                model.close()

    def _update(self) -> None:
        # Those that are no longer served go first, and make room.
        for model in sorted(self._by_name.values(), key=lambda model: model.config is not None):
            try:
                model.update()
            except Exception:  # the next look may find things in order again
                logger.exception("model %s: looking for new versions failed", model.name)

    def _check_labels(self, configs: Collection[ModelConfig]) -> None:
        for config in configs:
            model = self._by_name.get(config.name)
            available = model.available() if model else []
            before = self._labels.get(config.name, {})
            for label, number in config.labels.items():
                allowed = self._options.allow_unavailable_labels
                if allowed and before.get(label, number) == number:
                    continue
                if number not in available:
                    raise ServingError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {config.name}, "
                        "which is not currently available for inference",
                    )

    def _version(self, spec: model_pb2.ModelSpec) -> int | None:
        """The version asked for; one that is set to 0 is version 0, not the newest."""
        if spec.WhichOneof("version_choice") != "version_label":
            return spec.version.value if spec.HasField("version") else None
        label = spec.version_label
        number = self._labels.get(spec.name, {}).get(label)
        if number is None:
            raise invalid(f"Unrecognized servable version label: {label}")
        return number


def _failure(model: Model) -> str:
    failed = [(number, error) for number, (_, error) in model.status().items() if error]
    if failed:
        number, error = failed[0]
        return (
            f"{{name: {model.name} version: {number}}} due to error: "
            f"{error.code.name}: {error.message}"
        )
    return (
        f"{{name: {model.name}}} due to error: NOT_FOUND: "
        f"No versions of servable {model.name} found under base path {model.config.base_path}"
    )
