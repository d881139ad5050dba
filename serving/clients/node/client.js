'use strict';
// A client of TF Serving for Node.js: images in, images out.

const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const definition = loader.loadSync(path.join(__dirname, '..', 'serving.proto'), {
  keepCase: true, longs: Number, enums: String, defaults: true,
});
const { serving } = grpc.loadPackageDefinition(definition).tensorflow;
const signatures = definition['tensorflow.serving.SignatureDefMap'];

// Every request can be repeated, as it only computes. UNAVAILABLE: the server is lost or overloaded.
const SERVICE_CONFIG = {
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [{
    name: [{ service: 'tensorflow.serving.PredictionService' }],
    retryPolicy: {
      maxAttempts: 5, initialBackoff: '0.1s', maxBackoff: '2s', backoffMultiplier: 2,
      retryableStatusCodes: ['UNAVAILABLE'],
    },
  }],
};
const OPTIONS = {
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  'grpc.service_config': JSON.stringify(SERVICE_CONFIG),
};

/** A 1-D tensor of strings and Buffers, or of numbers as DT_FLOAT or DT_INT64. */
function tensor(values, dtype = 'DT_STRING') {
  const field = { DT_STRING: 'string_val', DT_FLOAT: 'float_val', DT_INT64: 'int64_val' }[dtype];
  return {
    dtype,
    tensor_shape: { dim: [{ size: values.length }] },
    [field]: dtype === 'DT_STRING' ? values.map((value) => Buffer.from(value)) : values,
  };
}

class FaceClient {
  /** @param {string} target HOST:PORT, or dns:///HOST:PORT @param {string} model its name on the server */
  constructor(target, model, { credentials = grpc.credentials.createInsecure(), timeout = 30 } = {}) {
    this.model = model;
    this.timeout = timeout;
    this.prediction = new serving.PredictionService(target, credentials, OPTIONS);
    this.models = new serving.ModelService(target, credentials, OPTIONS);
  }

  /** Runs a signature; inputs by name, made by `tensor`. Rejects with {code, details}. */
  async predict(inputs, { signature = 'bytes', version } = {}) {
    const model_spec = this._spec(version);
    model_spec.signature_name = signature;
    const reply = await this._call(this.prediction, 'Predict', { model_spec, inputs });
    return reply.outputs;
  }

  /** The states of the model's versions: [{version, state, status: {error_message}}]. */
  async status(version) {
    const request = { model_spec: this._spec(version) };
    return (await this._call(this.models, 'GetModelStatus', request)).model_version_status;
  }

  /** The model's signatures by name: {inputs: {NAME: {dtype, tensor_shape}}, outputs}. */
  async metadata() {
    const request = { model_spec: this._spec(), metadata_field: ['signature_def'] };
    const reply = await this._call(this.prediction, 'GetModelMetadata', request);
    return signatures.deserialize(reply.metadata.signature_def.value).signature_def;
  }

  close() {
    this.prediction.close();
    this.models.close();
  }

  _spec(version) {
    return version === undefined ? { name: this.model } : { name: this.model, version: { value: version } };
  }

  _call(stub, method, request) {
    const deadline = Date.now() + 1000 * this.timeout;
    return new Promise((resolve, reject) => {
      stub[method](request, { deadline }, (error, reply) => (error ? reject(error) : resolve(reply)));
    });
  }
}

module.exports = { FaceClient, tensor };
