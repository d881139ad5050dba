"""The embedded server: speaks TF Serving's gRPC API where TF Serving itself cannot be had.

A client cannot tell the two apart: same services, same status codes and messages, same typed reply
fields. `tfface.server.app.Server` is the whole of it; `python -m tfface.serve` starts one.

Modules: `app` (ports, polling), `services` (the RPCs of gRPC), `rest` with `rest_requests`,
`rest_replies` and `rest_json` (the REST API), `answers` (a request to its answer, however it came),
`monitoring` (metrics), `models` (the models by name), `versions` (which versions of a model are
live), `loading` (a folder to a version that answers), `saved_model` (one loaded version),
`batching` (requests that run together), `predict` and `examples` (a request to its outputs), `wire`
(tensors to and from bytes), `status` (errors with a gRPC status); without TensorFlow: `config`
(models and settings), `protos` (TF Serving's text files), `checks` (what can be told at once).
"""
