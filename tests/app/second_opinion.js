// ONNX Runtime runs a model, its decomposed and its fused form, and must agree with itself.
//   node second_opinion.js TRIPTYCH FOLDER_OF_ONNXRUNTIME MODEL... ; exit 77: it isn't installed, so nothing was tested
const fs = require('fs'), os = require('os'), path = require('path'), { spawnSync } = require('child_process');
const [triptych, modules, ...models] = process.argv.slice(2);
let ort;
try {
  ort = require(path.join(modules, 'node_modules', 'onnxruntime-node'));
} catch (error) {
  console.log('onnxruntime-node is not installed: skipped');
  process.exit(77);
}
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'triptych-opinion-'));

function inputs(session, feeds) {
  if (feeds) return feeds;
  let state = 1;
  const random = () => (state = (state * 16807) % 2147483647) / 2147483647 - 0.5;
  return { x: new ort.Tensor('float32', Float32Array.from({ length: 2 * 5 * 32 }, random), [2, 5, 32]) };
}

// The protobuf of a TensorProto: enough for the test data that ships with small models.
function tensorOf(file) {
  const bytes = fs.readFileSync(file), dims = [];
  let at = 0, type = 1, raw = null;
  const varint = () => { let v = 0n, s = 0n; for (;;) { const b = bytes[at++]; v |= BigInt(b & 127) << s; if (b < 128) return Number(v); s += 7n; } };
  while (at < bytes.length) {
    const tag = varint(), field = tag >> 3, kind = tag & 7;
    if (kind === 0) { const v = varint(); if (field === 1) dims.push(v); if (field === 2) type = v; continue; }
    const length = varint(), part = bytes.subarray(at, at + length);
    if (field === 1) { const end = at + length; while (at < end) dims.push(varint()); } else at += length;
    if (field === 9) raw = Uint8Array.from(part).buffer;
  }
  const kinds = { 1: ['float32', Float32Array], 6: ['int32', Int32Array], 7: ['int64', BigInt64Array], 9: ['bool', Uint8Array] };
  return new ort.Tensor(kinds[type][0], new kinds[type][1](raw), dims);
}

async function run(file, feeds) {
  const session = await ort.InferenceSession.create(file, { graphOptimizationLevel: 'disabled', logSeverityLevel: 3 });
  const given = inputs(session, feeds);
  const named = Array.isArray(given) ? Object.fromEntries(given.map((tensor, i) => [session.inputNames[i], tensor])) : given;
  const result = await session.run(named);
  return result[session.outputNames[0]].data;
}

function written(verb, model) {
  const out = path.join(folder, `${verb}.onnx`);
  const done = spawnSync(triptych, [verb, model, '-o', out, '--quiet'], { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`${verb} ends with ${done.status}: ${done.stderr}`);
  return out;
}

async function main() {
  let failed = 0;
  for (const model of models) {
    const data = fs.readdirSync(path.dirname(model)).filter(name => /^input_\d+\.pb$/.test(name)).sort();
    const feeds = data.length && path.basename(model) === 'model.onnx' ? data.map(name => tensorOf(path.join(path.dirname(model), name))) : null;
    const wanted = await run(model, feeds);
    const largest = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    for (const verb of ['decompose', 'fuse']) {
      const got = await run(written(verb, model), feeds);
      let worst = got.length === wanted.length ? 0 : Infinity;
      got.forEach((value, i) => { worst = Math.max(worst, Math.abs(value - wanted[i])); });
      const good = worst <= 1e-5 * Math.max(largest, 1e-3);
      if (!good) ++failed;
      console.log(`${good ? 'PASS' : 'FAIL'} ${verb} ${model}: largest difference ${worst}, of the largest value ${worst / largest}`);
    }
  }
  fs.rmSync(folder, { recursive: true });
  process.exit(failed ? 1 : 0);
}
main().catch(error => { console.log(`FAIL ${error.message}`); process.exit(1); });
