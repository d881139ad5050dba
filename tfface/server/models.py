"""The served models, by name."""

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
    """The served models; empty until `configure` is called.

    Args:
        options: Server settings.
    """

    def __init__(self, options: Options):
        self._options = options
        self._by_name: dict[str, Model] = {}  # includes models that are no longer served
        self._labels: dict[str, Mapping[str, int]] = {}
        self._changing = threading.Lock()

    def __iter__(self) -> Iterator[Model]:
        return iter([model for model in self._by_name.values() if model.config is not None])

    def __getitem__(self, name: str) -> Model:
        return self._by_name[name]

    @contextlib.contextmanager
    def use(self, spec: model_pb2.ModelSpec) -> Iterator[tuple[int, SavedModel]]:
        """Keeps the requested version loaded while a request runs.

        Args:
            spec: The request's model specification.

        Yields:
            The version's number and the loaded model.

        Raises:
            ServingError: No such model, version or label; with TF Serving's message.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        number = self._version(spec)
        if spec.name not in self._by_name:
            raise not_found(spec.name, number)
        with self._by_name[spec.name].use(number) as used:
            yield used

    def status(self, spec: model_pb2.ModelSpec) -> dict[int, tuple[State, ServingError | None]]:
        """State of every version ever seen, or of the requested one; newest first.

        Raises:
            ServingError: NOT_FOUND: no such model or version; INVALID_ARGUMENT: no such label.
        """
        name, number = spec.name, self._version(spec)
        states = self._by_name[name].status() if name in self._by_name else {}
        if number is not None:
            if number not in states:
                raise ServingError(
                    grpc.StatusCode.NOT_FOUND, f"Could not find version {number} of model {name}"
                )
            return {number: states[number]}
        if not states:
            raise ServingError(
                grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {name}"
            )
        return states

    def reload(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Handles a HandleReloadConfigRequest; see `configure`.

        Raises:
            ServingError: As of `configure`, and INVALID_ARGUMENT: the config is invalid.
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
        """Replaces the served models; returns when the new ones are available.

        Args:
            configs: The models to serve, with distinct names.

        Raises:
            ServingError: FAILED_PRECONDITION: a label points to an unavailable version; nothing
                has changed. UNKNOWN: new models did not become available; loading is retried.
        """
        with self._changing:
            self._check_labels(configs)
            before = {model.name for model in self}
            by_name = {config.name: config for config in configs}
            new = {name: Model(config, self._options) for name, config in by_name.items()}
            self._by_name = new | self._by_name
            for name, model in self._by_name.items():
                model.config = by_name.get(name)
            self._labels = {name: config.labels for name, config in by_name.items()}
            self._update()
            failed = [m for m in self if m.name not in before and not m.available()]
        if failed:
            reasons = "".join(f"{{{_failure(model)}}}, " for model in failed)
            raise ServingError(
                grpc.StatusCode.UNKNOWN,
                f"{len(failed)} model(s) did not become available: {{{reasons}}}",
            )

    def update(self) -> None:
        """Updates every model to the versions in its folder; does not raise."""
        with self._changing:
            self._update()

    def close(self) -> None:
        """Unloads all models as soon as no request uses them."""
        with self._changing:
            for model in self._by_name.values():
                model.close()

    def _update(self) -> None:
        # Models that are no longer served come first, to free memory.
        for model in sorted(self._by_name.values(), key=lambda model: model.config is not None):
            try:
                model.update()
            except Exception:  # the next update may succeed
                logger.exception("model %s: cannot update its versions", model.name)

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
        """The requested version, None for the newest; an explicit 0 means version 0."""
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
