"""The embedded server: speaks TF Serving's gRPC API where TF Serving itself cannot be had.

Same services, same status codes and messages, same typed reply fields; what differs on purpose is
in the README. `tfface.server.app.Server` is the whole of it; `python -m tfface.serve` starts one.

Modules: `app` (models, servers, polling); in front `grpc_server` with `services` (the RPCs), and
`rest_server` (connections) with `rest` (paths), `rest_requests`, `rest_replies` and `rest_json`;
`workers` (the event loop, and the threads behind it), `limits` (what a request may unfold to),
`tls`; `answers` (a request to its answer, however it came), `monitoring` (metrics), `models` (the
models by name), `versions` (which versions of a model are live), `loading` (a folder to a version
that answers), `saved_model` (one loaded version), `batching` (requests that run together),
`predict` and `examples` (a request to its outputs), `wire` (tensors to and from bytes), `status`
(errors with a gRPC status); without TensorFlow: `config` (models and settings), `protos` (TF
Serving's text files), `checks` (what can be told at once).
"""
