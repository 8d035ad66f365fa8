// A client in Node, from docs/protocol.md, without any package: it tracks two boxes in a closed loop and prints their ids.
//
//     node examples/node_client.mjs

import { parseArgs } from "node:util";
import { Socket, pack, unpack } from "./node_zeromq.mjs";

function fail(message) {
  console.error(`node_client.mjs: ${message}`);
  process.exit(1);
}

function options() {
  const known = { ingest: "tcp://127.0.0.1:5570", stream: "node", frames: "30" };
  const described = Object.entries(known).map(([name, value]) => [name, { type: "string", default: value }]);
  try {
    return parseArgs({ options: Object.fromEntries(described) }).values;
  } catch (error) {
    return fail(error.message.split("\n")[0]);
  }
}

const given = options();
const ingest = new Socket(given.ingest, "DEALER", fail);
const timer = setTimeout(() => fail("no answer within 60 s; is `trackd serve` running?"), 60_000);
await ingest.ready;
let credit = 0;

// Wait for one of some kinds of messages. Each `opened` and `ack` adds to the frames that may be sent.
async function receive(...kinds) {
  for (;;) {
    const [raw, ...parts] = await ingest.receive();
    const header = unpack(raw);
    if (header.kind === "error") fail(`${header.code}: ${header.message}`);
    if (header.kind === "opened" || header.kind === "ack") credit += header.credit;
    if (kinds.includes(header.kind)) return { header, parts };
  }
}

const send = (header, ...parts) => ingest.send(pack({ v: 1, stream: given.stream, ...header }), ...parts);

send({ kind: "open", reply: "tracks", frame_shape: [480, 640] });
const { header: opened } = await receive("opened");
for (let i = 0; i < Number(given.frames); i++) {
  while (credit < 1) await receive("ack");
  const boxes = new Float32Array([10 + 5 * i, 20, 50 + 5 * i, 60, 600 - 5 * i, 20, 640 - 5 * i, 60]); // x1 y1 x2 y2
  const detections = { boxes: { dtype: "<f4", shape: [2, 4], part: 1 } };
  const t_ns = BigInt(Date.now()) * 1_000_000n;
  const frame = { kind: "frame", seq: Number(opened.next_seq) + i, frame_index: i, t_ns, image: null, detections };
  send(frame, Buffer.from(boxes.buffer));
  credit -= 1;
  const { header, parts } = await receive("tracks");
  const ids = parts[header.track_ids.part - 1];
  console.log(`frame ${header.frame_index}: ids ${ids.readInt32LE(0)} ${ids.readInt32LE(4)}`);
}
send({ kind: "close" });
await receive("closed");
clearTimeout(timer);
process.exit(0);
