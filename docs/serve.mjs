// node serve.mjs EXPORTED_FOLDER [PORT]: POST a grey 8-bit PNG of class ids to /?seed=3, get the picture as PNG.
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import ort from "onnxruntime-node";
import { PNG } from "pngjs";

const folder = process.argv[2];
const model = JSON.parse(readFileSync(join(folder, "model.json"), "utf8"));
const session = await ort.InferenceSession.create(join(folder, model.onnx.generator.dense));
const [height, width] = model.size;
const unlabelled = new Set(model.unknown_ids ?? (model.unknown === null ? [] : [model.file_unknown])); // ids in files
const MOST = 4 << 20; // bytes of an upload

function labelMap(png) {
  if (png.readUInt32BE(16) * png.readUInt32BE(20) > 1 << 24) throw new Error("too many pixels"); // before unpacking
  const source = PNG.sync.read(png); // RGBA; the red channel holds the id
  const label = new Int32Array(height * width);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const row = Math.floor(((y + 0.5) * source.height) / height);
      const column = Math.floor(((x + 0.5) * source.width) / width);
      const id = source.data[4 * (row * source.width + column)];
      label[y * width + x] = unlabelled.has(id) ? model.unknown : id;
    }
  const strange = label.find((id) => id >= model.names.length);
  if (strange !== undefined) throw new Error(`id ${strange}: expected 0..${model.names.length - 1}`);
  return label;
}

function style(seed) {
  // Any standard normal numbers do; these are not the ones that neighbourhoods.style_noise draws.
  let state = seed >>> 0;
  const uniform = () => ((state = (Math.imul(state, 1664525) + 1013904223) >>> 0) + 0.5) / 4294967296;
  return Float32Array.from({ length: model.z_dim }, () =>
    seed ? Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()) : 0);
}

async function paint(png, seed) {
  const label = labelMap(png);
  const inputs = { label: new ort.Tensor("int32", label, [1, height, width]) };
  if (model.uses_instances) inputs.instance = inputs.label; // edges where classes meet
  if (model.z_dim) inputs.style = new ort.Tensor("float32", style(seed), [1, model.z_dim]);
  const { picture } = await session.run(inputs); // [1,3,H,W] in [-1,1]
  const result = new PNG({ width, height });
  const area = height * width;
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++)
      result.data[4 * i + c] = Math.round((Math.max(-1, Math.min(1, picture.data[c * area + i])) + 1) * 127.5);
    result.data[4 * i + 3] = 255;
  }
  return PNG.sync.write(result);
}

createServer(async (request, response) => {
  try {
    const parts = [];
    let size = 0;
    for await (const part of request) {
      if ((size += part.length) > MOST) throw new Error(`more than ${MOST} bytes`);
      parts.push(part);
    }
    const seed = Number(new URL(request.url, "http://localhost").searchParams.get("seed"));
    const png = await paint(Buffer.concat(parts), seed);
    response.writeHead(200, { "content-type": "image/png" }).end(png);
  } catch (error) {
    response.writeHead(400).end(`${error.message}\n`);
  }
}).listen(Number(process.argv[3] ?? 8000), "127.0.0.1");
