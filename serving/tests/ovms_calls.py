"""`python ovms_calls.py grpc|http HOST:PORT`: prints the results of Intel's client as JSON."""

import json
import sys

import numpy
import ovmsclient

make = {"grpc": ovmsclient.make_grpc_client, "http": ovmsclient.make_http_client}[sys.argv[1]]
client = make(sys.argv[2])
images = numpy.full((2, 16, 16, 3), 0.5, numpy.float32)
inputs = {"image": images, "expression": numpy.array(["happy", "sad"])}
if sys.argv[1] == "grpc":
    inputs["expression"] = [b"happy", b"sad"]
try:
    client.get_model_status("nope", 1)
    refused = None
except ovmsclient.tfs_compat.base.errors.ModelServerError as error:
    refused = type(error).__name__
metadata = client.get_model_metadata("g", 1)
if sys.argv[1] == "http":  # over HTTP the client passes on the server's message
    metadata = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
print(
    json.dumps(
        {
            "status": client.get_model_status("g", 1),
            "inputs": sorted(metadata["inputs"]),
            "image": client.predict(inputs, "g", 1)["image"].ravel()[:3].tolist(),
            "refused": refused,
        }
    )
)
