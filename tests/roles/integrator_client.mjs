// A client in Node without any package, written from docs/protocol.md. ZeroMQ and MessagePack are those of the example.
//
//     node integrator_client.mjs INGEST TRACKS CONTROL
//
// tracks a stream and prints what it received as one line of JSON, in which a BigInt is text.

import { Socket, pack, unpack } from "../../examples/node_zeromq.mjs";

function fail(message) {
  console.error(message);
  process.exit(1);
}

// --- the protocol of docs/protocol.md ---

const [ingestAt, tracksAt, controlAt] = process.argv.slice(2);
const STREAM = "node";
const FRAMES = 80;
const ingest = new Socket(ingestAt, "DEALER", fail);
const tracks = new Socket(tracksAt, "SUB", fail);
const control = new Socket(controlAt, "DEALER", fail);
const timer = setTimeout(() => fail("no answer within 60 s"), 60_000);
await Promise.all([ingest.ready, tracks.ready, control.ready]);
for (const kind of ["tracks", "events"]) tracks.send(Buffer.from(`\x01${kind}/${STREAM}/`, "latin1"));

let credit = 0;
const found = { acked: -1, errors: [], replies: [], published: [], events: [] };

function send(header, ...parts) {
  ingest.send(pack({ v: 1, ...header }), ...parts);
}

function array(header, parts, name) {
  const { dtype, shape, part } = header[name];
  const data = parts[part - 1];
  const size = shape.reduce((product, n) => product * n, 1);
  const read = { "<i4": (at) => data.readInt32LE(at), "<f4": (at) => data.readFloatLE(at) }[dtype];
  return Array.from({ length: size }, (_, i) => read(4 * i));
}

async function handle() {
  const [raw, ...parts] = await ingest.receive();
  const header = unpack(raw);
  credit += header.kind === "opened" || header.kind === "ack" ? header.credit : 0;
  if (header.kind === "ack") found.acked = Number(header.seq);
  if (header.kind === "error") found.errors.push([header.code, header.seq]);
  if (header.kind === "tracks") found.replies.push(row(header, parts));
  return header;
}

function row(header, parts) {
  const ids = header.status === "tracked" ? array(header, parts, "track_ids") : null;
  return [Number(header.seq), header.t_ns, header.status, ids];
}

send({ kind: "open", stream: STREAM, reply: "tracks", config: { max_gap: 10 } });
const opened = await handle();
if (opened.kind !== "opened") fail(JSON.stringify(opened, text));
let seq = Number(opened.next_seq);
const begin = BigInt(Date.now()) * 1_000_000n + 1n; // odd, so no 64-bit float holds it
const sent = [];
for (; seq < FRAMES; seq++) {
  while (credit < 1) await handle();
  const boxes = Buffer.alloc(32);
  [10 + seq, 20, 50 + seq, 60, 300 - seq, 20, 340 - seq, 60].forEach((x, i) => boxes.writeFloatLE(x, 4 * i));
  const t_ns = begin + BigInt(seq) * 33_333_333n;
  sent.push(t_ns);
  const detections = { boxes: { dtype: "<f4", shape: [2, 4], part: 1 } };
  // One frame has its time as a float, as by a client that does not use BigInt: it is rejected, and the next are tracked.
  const time = seq === 40 ? Date.now() / 1000 + 0.0005 : t_ns;
  send({ kind: "frame", stream: STREAM, seq, frame_index: seq, t_ns: time, image: null, detections }, boxes);
  credit -= 1;
}
while (found.acked < FRAMES - 1) await handle();

control.send(pack({ v: 1, kind: "request", id: 7, method: "history", params: { stream: STREAM, from_seq: FRAMES - 5 } }));
const reply = unpack((await control.receive())[0]);
const history = reply.result.map((each) => [Number(each.seq), each.t_ns, each.status, each.track_ids]);

send({ kind: "close", stream: STREAM });
let closed = await handle();
while (closed.kind !== "closed") closed = await handle();
while (!found.events.includes("closed")) {
  const [topic, raw, ...parts] = await tracks.receive();
  const header = unpack(raw);
  if (topic.toString().startsWith("events/")) found.events.push(header.event);
  else found.published.push(row(header, parts));
}
clearTimeout(timer);

function text(key, value) {
  return typeof value === "bigint" ? value.toString() : value;
}

const result = { ...found, sent, history, last_seq: closed.last_seq, epoch: opened.epoch };
process.stdout.write(JSON.stringify(result, text) + "\n", () => process.exit(0));
