/** The past of a stream: pause, step and scrub over the daemon's history, with the pictures that the page still has. */

import { TRAIL_S } from "./recent.js";
import { ofRow } from "./settlement.js";

const BLOCK = 128; // frames a request
const MAX_BLOCKS = 24;

/** The settlements of one epoch of a stream, read from the daemon in blocks; the blocks used least recently are forgotten. */
class History {
  constructor(stream, request) {
    this.stream = stream.name;
    this.epoch = stream.epoch;
    this.request = request;
    this.blocks = new Map(); // number -> Promise of settlements by seq
  }

  block(number, upTo) {
    let rows = this.blocks.get(number);
    if (rows !== undefined) this.blocks.delete(number); // it becomes the most recent one
    else rows = this.read(number, upTo);
    this.blocks.set(number, rows);
    if (this.blocks.size > MAX_BLOCKS) this.blocks.delete(this.blocks.keys().next().value);
    return rows;
  }

  async read(number, upTo) {
    const found = [];
    let from = number * BLOCK;
    const to = Math.min(from + BLOCK - 1, upTo);
    while (from <= to) {
      const params = { stream: this.stream, epoch: this.epoch, from_seq: from, to_seq: to, limit: BLOCK };
      let rows;
      try {
        rows = await this.request("history", params);
      } catch (error) {
        this.blocks.delete(number); // the next use asks again
        throw error;
      }
      if (rows.length === 0) break;
      for (const row of rows) found.push(ofRow(row, this.stream));
      from = rows.at(-1).seq + 1;
    }
    return found;
  }
}

export class Playback {
  /**
   * @param {function} request sends a request to the daemon
   * @param {function} onShown called when another frame is shown, and with an error's text if there is one
   */
  constructor(request, onShown) {
    this.request = request;
    this.onShown = onShown;
    this.stream = null;
    this.live();
  }

  /** Show the live frames again. */
  live() {
    this.isPaused = false;
    this.settlement = null;
    this.trails = new Map();
    this.history = null;
    this.oldestKnown = null; // settled when the daemon has answered which frame is its oldest one
    this.received = null; // what the page has received itself
    this.wanted = -1;
    this.oldest = 0;
    this.newest = 0;
    this.bitmap?.close();
    this.bitmap = null;
    if (this.stream !== null) this.stream.keepsPictures = true;
  }

  /** Stop at the frame that is shown. */
  pause(stream) {
    if (stream.shown === null) return;
    this.stream = stream;
    this.isPaused = true;
    stream.keepsPictures = false; // else the pictures of the past would be replaced by those of the present
    this.history = new History(stream, this.request);
    this.received = stream.recent.copy();
    this.newest = Math.max(stream.shown.seq, stream.lanes.last);
    this.oldest = this.received.items[0]?.seq ?? this.newest;
    this.oldestKnown = this.findOldest(this.history);
    this.show(stream.shown.seq);
  }

  async findOldest(history) {
    try {
      const params = { stream: history.stream, epoch: history.epoch, from_seq: 0, limit: 1 };
      const rows = await this.request("history", params);
      if (this.history !== history) return;
      if (rows.length > 0) this.oldest = Math.min(this.oldest, rows[0].seq);
      this.onShown();
    } catch {
      // What the page received itself can be shown.
    }
  }

  step(count) {
    this.show(this.wanted + count);
  }

  /** Show a frame: the last one that is asked for, when it is here. */
  async show(seq) {
    if (!this.isPaused) return;
    const { history } = this;
    seq = Math.min(this.newest, Math.round(seq));
    this.wanted = seq;
    if (seq < this.oldest) {
      // The page may have received nothing before the frame at which it was paused.
      await this.oldestKnown;
      if (this.history !== history || this.wanted !== seq) return;
      seq = Math.max(this.oldest, seq);
      this.wanted = seq;
    }
    const isWanted = () => this.history === history && this.wanted === seq;
    const received = this.received.at(seq);
    let { items } = this.received;
    let index = this.received.indexUpTo(seq);
    try {
      const number = Math.floor(seq / BLOCK);
      const read = async (wanted) => (wanted < 0 ? [] : history.block(wanted, this.newest));
      const rows = [...(await read(number - 1)), ...(await read(number))];
      const found = rows.findIndex((row) => row.seq === seq);
      if (found >= 0) [items, index] = [rows, found];
    } catch (error) {
      if (!isWanted()) return;
      if (received === null) {
        this.onShown(`frame ${seq} cannot be read: ${error.message}`);
        return;
      }
    }
    if (!isWanted()) return;
    const settlement = received ?? items[index];
    if (settlement === undefined || settlement.seq !== seq) {
      this.onShown(`frame ${seq} is not in the daemon's history any more`);
      return;
    }
    let bitmap = null;
    if (settlement.image !== null) bitmap = await createImageBitmap(new Blob([settlement.image])).catch(() => null);
    if (!isWanted()) {
      bitmap?.close();
      return;
    }
    this.bitmap?.close();
    this.bitmap = bitmap;
    this.settlement = settlement;
    this.trails = items[index]?.seq === seq ? this.stream.trails(items, index, TRAIL_S) : new Map();
    this.onShown();
  }
}
