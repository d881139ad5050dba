"""The embedded server: speaks TF Serving's gRPC API where TF Serving itself cannot be had.

A client cannot tell the two apart: same services, same status codes and messages, same typed reply
fields. `tfface.server.app.Server` is the whole of it; `python -m tfface.serve` starts one.

Modules: `app` (ports, polling), `services` (the RPCs of gRPC), `answers` (a request to its answer),
`models` (the models by name), `versions` (which versions of a model are live), `loading` (a folder
to a version that answers), `saved_model` (one loaded version), `predict` (a request to its
outputs), `wire` (tensors to and from bytes), `status` (errors with a gRPC status); without
TensorFlow: `config` (models and settings), `protos` (TF Serving's text files), `checks` (what can
be told at once).
"""
