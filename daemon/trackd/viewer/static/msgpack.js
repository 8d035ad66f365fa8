/**
 * MessagePack, as the viewer's socket uses it: no extension types.
 *
 * Integers above 2^53 become the nearest number. Only capture times are that large, and the page shows them in seconds.
 */

const utf8 = new TextDecoder();
const toUtf8 = new TextEncoder();
const MAX_DEPTH = 16;

class Reader {
  constructor(buffer) {
    this.view = new DataView(buffer);
    this.bytes = new Uint8Array(buffer);
    this.at = 0;
  }

  take(count) {
    const from = this.at;
    this.at += count;
    if (this.at > this.bytes.length) throw new RangeError("the message ends too early");
    return from;
  }

  binary(count) {
    const from = this.take(count);
    return this.bytes.subarray(from, from + count);
  }

  text(count) {
    return utf8.decode(this.binary(count));
  }

  list(count, depth) {
    const items = [];
    for (let i = 0; i < count; i++) items.push(this.value(depth + 1));
    return items;
  }

  map(count, depth) {
    const entries = Object.create(null);
    for (let i = 0; i < count; i++) {
      const key = this.value(depth + 1);
      entries[key] = this.value(depth + 1);
    }
    return entries;
  }

  u8() { return this.view.getUint8(this.take(1)); }
  u16() { return this.view.getUint16(this.take(2)); }
  u32() { return this.view.getUint32(this.take(4)); }

  value(depth) {
    if (depth > MAX_DEPTH) throw new RangeError("the message is nested too deep");
    const code = this.u8();
    if (code < 0x80) return code;
    if (code < 0x90) return this.map(code & 15, depth);
    if (code < 0xa0) return this.list(code & 15, depth);
    if (code < 0xc0) return this.text(code & 31);
    if (code >= 0xe0) return code - 256;
    switch (code) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return this.binary(this.u8());
      case 0xc5: return this.binary(this.u16());
      case 0xc6: return this.binary(this.u32());
      case 0xca: return this.view.getFloat32(this.take(4));
      case 0xcb: return this.view.getFloat64(this.take(8));
      case 0xcc: return this.u8();
      case 0xcd: return this.u16();
      case 0xce: return this.u32();
      case 0xcf: return Number(this.view.getBigUint64(this.take(8)));
      case 0xd0: return this.view.getInt8(this.take(1));
      case 0xd1: return this.view.getInt16(this.take(2));
      case 0xd2: return this.view.getInt32(this.take(4));
      case 0xd3: return Number(this.view.getBigInt64(this.take(8)));
      case 0xd9: return this.text(this.u8());
      case 0xda: return this.text(this.u16());
      case 0xdb: return this.text(this.u32());
      case 0xdc: return this.list(this.u16(), depth);
      case 0xdd: return this.list(this.u32(), depth);
      case 0xde: return this.map(this.u16(), depth);
      case 0xdf: return this.map(this.u32(), depth);
      default: throw new RangeError(`the byte 0x${code.toString(16)} begins no value`);
    }
  }
}

/** Decode one message. Binary values are views of its buffer. Throws RangeError if it is not valid. */
export function decode(buffer) {
  const reader = new Reader(buffer);
  const value = reader.value(0);
  if (reader.at !== buffer.byteLength) throw new RangeError("bytes follow the message");
  return value;
}

class Writer {
  constructor() {
    this.view = new DataView(new ArrayBuffer(256));
    this.at = 0;
  }

  room(count) {
    const from = this.at;
    this.at += count;
    if (this.at > this.view.byteLength) {
      const larger = new Uint8Array(Math.max(this.at, 2 * this.view.byteLength));
      larger.set(new Uint8Array(this.view.buffer));
      this.view = new DataView(larger.buffer);
    }
    return from;
  }

  u8(number) { const at = this.room(1); this.view.setUint8(at, number); }
  u16(number) { const at = this.room(2); this.view.setUint16(at, number); }
  u32(number) { const at = this.room(4); this.view.setUint32(at, number); }

  number(number) {
    if (!Number.isSafeInteger(number)) {
      this.u8(0xcb);
      const at = this.room(8);
      this.view.setFloat64(at, number);
    } else if (number >= 0 && number < 0x80) {
      this.u8(number);
    } else if (number < 0 && number >= -32) {
      this.u8(number + 256);
    } else {
      this.u8(0xd3);
      const at = this.room(8);
      this.view.setBigInt64(at, BigInt(number));
    }
  }

  text(text) {
    const bytes = toUtf8.encode(text);
    if (bytes.length < 32) {
      this.u8(0xa0 | bytes.length);
    } else {
      this.u8(0xdb);
      this.u32(bytes.length);
    }
    const at = this.room(bytes.length);
    new Uint8Array(this.view.buffer).set(bytes, at);
  }

  value(value) {
    if (value === null || value === undefined) this.u8(0xc0);
    else if (typeof value === "boolean") this.u8(value ? 0xc3 : 0xc2);
    else if (typeof value === "number") this.number(value);
    else if (typeof value === "string") this.text(value);
    else if (Array.isArray(value)) {
      this.u8(0xdc);
      this.u16(value.length);
      for (const item of value) this.value(item);
    } else {
      const entries = Object.entries(value);
      this.u8(0xde);
      this.u16(entries.length);
      for (const [key, item] of entries) {
        this.text(key);
        this.value(item);
      }
    }
  }
}

/** Encode null, booleans, numbers, strings, arrays and plain objects. */
export function encode(value) {
  const writer = new Writer();
  writer.value(value);
  return new Uint8Array(writer.view.buffer, 0, writer.at);
}
