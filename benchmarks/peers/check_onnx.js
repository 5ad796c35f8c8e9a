// check_onnx.js MODEL.onnx X.npy Y.npy: runs a one-node model that `normlayers export` wrote in ONNX Runtime on X and
// compares with Y, what `normlayers run` gave. float32, C order. Exit 1 where they differ by more than 1e-5 of Y's largest.
const fs = require('fs'), path = require('path');
const peers = process.env.PEERS || path.join(process.env.HOME, '.cache/normlayers-peers');
const ort = require(path.join(peers, 'ort/node_modules/onnxruntime-node'));
function npy(file) {
  const b = fs.readFileSync(file), length = b.readUInt16LE(8), header = b.toString('latin1', 10, 10 + length);
  if (!header.includes("'<f4'") || header.includes("'fortran_order': True")) throw new Error(`${file}: float32 in C order is needed`);
  const shape = /\(([^)]*)\)/.exec(header)[1].split(',').filter(s => s.trim()).map(Number);
  return { data: new Float32Array(b.buffer.slice(b.byteOffset + 10 + length, b.byteOffset + b.length)), shape };
}
(async () => {
  const [model, xPath, yPath] = process.argv.slice(2), x = npy(xPath), y = npy(yPath);
  const session = await ort.InferenceSession.create(model);
  const { output } = await session.run({ input: new ort.Tensor('float32', x.data, x.shape) });
  if (output.dims.join() !== y.shape.join()) throw new Error(`shape ${output.dims}, not ${y.shape}`);
  let worst = 0, largest = 0;
  for (let i = 0; i < y.data.length; i++) { worst = Math.max(worst, Math.abs(output.data[i] - y.data[i])); largest = Math.max(largest, Math.abs(y.data[i])); }
  console.log(`${path.basename(model)}: differs by ${worst} at most, the largest value is ${largest}`);
  process.exit(worst <= 1e-5 * largest ? 0 : 1);
})().catch(e => { console.error(e.message); process.exit(1); });
