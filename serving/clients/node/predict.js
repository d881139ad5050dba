'use strict';
// node predict.js HOST:PORT MODEL OUT.png image_bytes=@me.jpg expression=happy

const fs = require('node:fs');
const { FaceClient, tensor } = require('./client');

/** Converts @FILE or TEXT to a tensor of the given dtype. */
function parse(text, dtype) {
  if (text.startsWith('@')) return tensor([fs.readFileSync(text.slice(1))]);
  return tensor([dtype === 'DT_STRING' ? text : Number(text)], dtype);
}

async function main([target, model, out, ...pairs]) {
  if (pairs.length === 0) throw new Error('usage: node predict.js HOST:PORT MODEL OUT.png NAME=VALUE...');
  const client = new FaceClient(target, model);
  try {
    const expected = (await client.metadata()).bytes.inputs;
    const inputs = {};
    for (const pair of pairs) {
      const [name] = pair.split('=', 1);
      if (!(name in expected)) throw new Error(`no input ${name}: expected ${Object.keys(expected).join(', ')}`);
      inputs[name] = parse(pair.slice(name.length + 1), expected[name].dtype);
    }
    const outputs = await client.predict(inputs);
    fs.writeFileSync(out, outputs.image_bytes.string_val[0]);
  } finally {
    client.close();
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
});
