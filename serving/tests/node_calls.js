'use strict';
// node node_calls.js HOST:PORT IMAGE: what the client of Node.js gets, as JSON.

const fs = require('node:fs');
const path = require('node:path');
const { FaceClient, tensor } = require(path.join(__dirname, '..', 'clients', 'node', 'client.js'));

const refused = (promise) => promise.then(() => null, ({ code, details }) => ({ code, details }));

async function main(target, image) {
  const client = new FaceClient(target, 'g');
  const image_bytes = tensor([fs.readFileSync(image)]);
  const good = { image_bytes, expression: tensor(['sad']) };
  const outputs = await client.predict(good);
  const floats = await client.predict({ x: tensor([0.5, 2], 'DT_FLOAT') }, { signature: 'types' });
  const signatures = await client.metadata();
  console.log(JSON.stringify({
    image: outputs.image_bytes.string_val[0].toString('base64'),
    shape: outputs.image_bytes.tensor_shape.dim.map((dim) => dim.size),
    scalar: floats.scalar.float_val,
    status: await client.status(),
    inputs: signatures.bytes.inputs,
    missing: await refused(client.predict({ image_bytes })),
    version: await refused(client.predict(good, { version: 99 })),
    model: await refused(new FaceClient(target, 'nope').status()),
    signature: await refused(client.predict(good, { signature: 'nope' })),
  }));
  client.close();
}

main(...process.argv.slice(2));
