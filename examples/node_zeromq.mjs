// What a client in Node needs, without any package: a small ZeroMQ client (ZMTP 3.0, NULL) over TCP, and a small MessagePack
// coder, whose 64-bit integers are BigInt. The text of a connection's error goes to `onError`.

import net from "node:net";

// --- MessagePack ---

export function pack(value) {
  const chunks = [];
  const head = (size, small, code8, code16, code32) => {
    if (size <= small[1]) chunks.push(Buffer.from([small[0] | size]));
    else if (size < 0x100 && code8) chunks.push(Buffer.from([code8, size]));
    else if (size < 0x10000) chunks.push(Buffer.from([code16, size >> 8, size & 255]));
    else {
      const long = Buffer.alloc(5);
      long[0] = code32;
      long.writeUInt32BE(size, 1);
      chunks.push(long);
    }
  };
  const add = (item) => {
    if (item === null || item === undefined) chunks.push(Buffer.from([0xc0]));
    else if (typeof item === "boolean") chunks.push(Buffer.from([item ? 0xc3 : 0xc2]));
    else if (typeof item === "bigint" || Number.isInteger(item)) {
      const number = BigInt(item);
      const long = Buffer.alloc(9);
      long[0] = 0xd3; // a signed 64-bit integer holds every integer of the protocol
      long.writeBigInt64BE(number, 1);
      chunks.push(long);
    } else if (typeof item === "number") {
      const double = Buffer.alloc(9);
      double[0] = 0xcb;
      double.writeDoubleBE(item, 1);
      chunks.push(double);
    } else if (typeof item === "string") {
      const text = Buffer.from(item, "utf8");
      head(text.length, [0xa0, 31], 0xd9, 0xda, 0xdb);
      chunks.push(text);
    } else if (Array.isArray(item)) {
      head(item.length, [0x90, 15], 0, 0xdc, 0xdd);
      item.forEach(add);
    } else {
      const entries = Object.entries(item);
      head(entries.length, [0x80, 15], 0, 0xde, 0xdf);
      for (const [key, entry] of entries) {
        add(key);
        add(entry);
      }
    }
  };
  add(value);
  return Buffer.concat(chunks);
}

export function unpack(data) {
  let at = 0;
  const take = (size) => data.subarray(at, (at += size));
  const text = (size) => take(size).toString("utf8");
  const list = (size) => Array.from({ length: size }, next);
  const map = (size) => Object.fromEntries(Array.from({ length: size }, () => [next(), next()]));
  function next() {
    const code = data[at++];
    if (code < 0x80) return code;
    if (code < 0x90) return map(code & 15);
    if (code < 0xa0) return list(code & 15);
    if (code < 0xc0) return text(code & 31);
    if (code >= 0xe0) return code - 256;
    switch (code) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return take(take(1)[0]);
      case 0xca: return take(4).readFloatBE();
      case 0xcb: return take(8).readDoubleBE();
      case 0xcc: return take(1).readUInt8();
      case 0xcd: return take(2).readUInt16BE();
      case 0xce: return take(4).readUInt32BE();
      case 0xcf: return take(8).readBigUInt64BE();
      case 0xd0: return take(1).readInt8();
      case 0xd1: return take(2).readInt16BE();
      case 0xd2: return take(4).readInt32BE();
      case 0xd3: return take(8).readBigInt64BE();
      case 0xd9: return text(take(1).readUInt8());
      case 0xda: return text(take(2).readUInt16BE());
      case 0xdb: return text(take(4).readUInt32BE());
      case 0xdc: return list(take(2).readUInt16BE());
      case 0xdd: return list(take(4).readUInt32BE());
      case 0xde: return map(take(2).readUInt16BE());
      case 0xdf: return map(take(4).readUInt32BE());
      default: throw new Error(`MessagePack code ${code}`);
    }
  }
  return next();
}

// --- ZeroMQ: greeting, READY, then parts with flags: 1 more, 2 long, 4 command ---

export class Socket {
  constructor(endpoint, kind, onError) {
    const { hostname, port } = new URL(endpoint.replace("tcp:", "http:"));
    this.received = Buffer.alloc(0);
    this.parts = [];
    this.messages = [];
    this.waiting = [];
    this.connection = net.connect(Number(port), hostname);
    this.connection.setNoDelay(true);
    this.connection.on("error", (error) => onError(`${endpoint}: ${error.message}`));
    const greeting = Buffer.alloc(64);
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3; // version 3.0
    greeting.write("NULL", 12, "ascii");
    const property = Buffer.concat([Buffer.from("\x0bSocket-Type\0\0\0", "latin1"), Buffer.from([kind.length])]);
    this.connection.write(Buffer.concat([greeting, command("READY", Buffer.concat([property, Buffer.from(kind)]))]));
    this.ready = new Promise((resolve) => (this.isReady = resolve));
    this.greeted = false;
    this.connection.on("data", (data) => this.read(data));
  }

  read(data) {
    this.received = Buffer.concat([this.received, data]);
    if (!this.greeted) {
      if (this.received.length < 64) return;
      this.received = this.received.subarray(64);
      this.greeted = true;
    }
    for (;;) {
      if (this.received.length < 2) return;
      const flags = this.received[0];
      const long = (flags & 2) !== 0;
      if (long && this.received.length < 9) return;
      const size = long ? Number(this.received.readBigUInt64BE(1)) : this.received[1];
      const begin = long ? 9 : 2;
      if (this.received.length < begin + size) return;
      const body = this.received.subarray(begin, begin + size);
      this.received = this.received.subarray(begin + size);
      if (flags & 4) this.command(body);
      else {
        this.parts.push(body);
        if (!(flags & 1)) {
          this.messages.push(this.parts);
          this.parts = [];
          this.waiting.shift()?.();
        }
      }
    }
  }

  command(body) {
    const name = body.subarray(1, 1 + body[0]).toString("ascii");
    if (name === "READY") this.isReady();
    if (name === "PING") this.connection.write(command("PONG", body.subarray(7)));
  }

  send(...parts) {
    parts.forEach((part, i) => this.connection.write(frame(part, i < parts.length - 1 ? 1 : 0)));
  }

  async receive() {
    if (!this.messages.length) await new Promise((resolve) => this.waiting.push(resolve));
    return this.messages.shift();
  }
}

function frame(body, flags) {
  if (body.length < 256) return Buffer.concat([Buffer.from([flags, body.length]), body]);
  const head = Buffer.alloc(9);
  head[0] = flags | 2;
  head.writeBigUInt64BE(BigInt(body.length), 1);
  return Buffer.concat([head, body]);
}

function command(name, data) {
  return frame(Buffer.concat([Buffer.from([name.length]), Buffer.from(name, "ascii"), data]), 4);
}
