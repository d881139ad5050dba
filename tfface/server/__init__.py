"""The embedded server: implements TF Serving's gRPC and REST APIs where TF Serving cannot run.

It has the same services, status codes, messages and typed reply fields; deliberate differences are
listed in docs/serving.md. The entry point is `tfface.server.app.Server`; `python -m tfface.serve`
starts one.

Modules:
    app: Models, ports and polling.
    grpc_server, services: The gRPC API: connections, and the RPCs.
    rest_server, rest, rest_requests, rest_replies, rest_json: The REST API: connections, routing,
        parsing of request bodies, reply bodies, and JSON.
    workers: The event loop and the worker threads.
    limits: Bounds on the decoded size of a request.
    tls: Key and certificate.
    handlers: Request handlers shared by gRPC and REST.
    predict, classify_regress: From a request message to the model's outputs.
    models, versions, loading, saved_model: All models by name, the versions of one model, loading
        of a version, and a loaded version.
    batching: Dynamic batching.
    tensors: Conversion between NumPy arrays and TensorProtos.
    monitoring: Prometheus metrics.
    status: Errors with a gRPC status.
    config, protos, checks: Settings, TF Serving's text files, and checks before the start; these do
        not import TensorFlow.
"""
