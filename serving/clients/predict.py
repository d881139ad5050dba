"""Calls any exported model; needs only gRPC and `serving.proto`, not TensorFlow.

    pip install grpcio-tools
    python predict.py sargan image_bytes=@me.jpg expression=happy --out happy.png
    python predict.py mask_guided label_map_bytes=@map.png seed=7 --target serving.example:8500

`NAME=@FILE` sends the content of a file, `NAME=TEXT` a string or a number, according to the model's
signature.
"""

import argparse
import json
from pathlib import Path

import grpc

# Compiled at the start, from the file next to this one.
protos, services = grpc.protos_and_services("serving.proto")

# Every request can be repeated, as it only computes. UNAVAILABLE: the server is lost or overloaded.
OPTIONS = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": "tensorflow.serving.PredictionService"}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}


def connect(target):
    """A channel without gRPC's limit of 4 MB, with load balancing and retries."""
    return grpc.insecure_channel(
        target,
        [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.service_config", json.dumps(OPTIONS)),
        ],
    )


def input_types(stub, model, signature, timeout):
    """The type of each input of a signature (`protos.DT_...`), by name."""
    request = protos.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = model
    signatures = protos.SignatureDefMap()
    reply = stub.GetModelMetadata(request, timeout=timeout)
    reply.metadata["signature_def"].Unpack(signatures)
    if signature not in signatures.signature_def:
        names = ", ".join(n for n in sorted(signatures.signature_def) if not n.startswith("__"))
        raise SystemExit(f"{model} has no signature {signature!r}, only {names}")
    return {name: info.dtype for name, info in signatures.signature_def[signature].inputs.items()}


def fill(tensor, dtype, text):
    """Fills a tensor of shape [1], for a batch of one."""
    tensor.dtype = dtype
    tensor.tensor_shape.dim.add(size=1)
    if dtype == protos.DT_STRING:
        data = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
        tensor.string_val.append(data)
    elif dtype == protos.DT_FLOAT:
        tensor.float_val.append(float(text))
    else:
        tensor.int64_val.append(int(text))


def main():
    """Sends one request and writes the returned image."""
    parser = argparse.ArgumentParser(description="Call an exported model on TF Serving.")
    parser.add_argument("model", help="the model's name")
    parser.add_argument("inputs", nargs="+", metavar="NAME=VALUE", help="NAME=@FILE or NAME=TEXT")
    parser.add_argument("--target", default="127.0.0.1:8500", help="HOST:PORT, or dns:///HOST:PORT")
    parser.add_argument("--signature", default="bytes", help="default: bytes")
    parser.add_argument("--out", type=Path, default=Path("out.png"), help="default: out.png")
    parser.add_argument("--timeout", type=float, default=30, help="seconds; default: 30")
    arguments = parser.parse_args()

    with connect(arguments.target) as channel:
        stub = services.PredictionServiceStub(channel)
        try:
            types = input_types(stub, arguments.model, arguments.signature, arguments.timeout)
            request = protos.PredictRequest()
            request.model_spec.name = arguments.model
            request.model_spec.signature_name = arguments.signature
            for pair in arguments.inputs:
                name, _, text = pair.partition("=")
                if name not in types:
                    raise SystemExit(f"no input {name!r}: expected {', '.join(sorted(types))}")
                fill(request.inputs[name], types[name], text)
            reply = stub.Predict(request, timeout=arguments.timeout)
        except grpc.RpcError as error:
            raise SystemExit(f"{error.code().name}: {error.details()}") from None
        except (OSError, ValueError) as error:
            raise SystemExit(str(error)) from None
    (image,) = [tensor for tensor in reply.outputs.values() if tensor.string_val]
    arguments.out.write_bytes(image.string_val[0])
    version = reply.model_spec.version.value
    print(f"{arguments.out}: by {arguments.model}, version {version}")


if __name__ == "__main__":
    main()
