/** One stream as the page knows it: its last picture with its settlement, its recent frames, its lanes and measurements. */

import { Lanes } from "./lanes.js";
import { Recent, trailsOf } from "./recent.js";
import { ofFrame, ofRow } from "./settlement.js";
import { Zones } from "./zones.js";

const MAX_WAITING = 600; // frames that arrive while the history is read
const BACKFILL_FRAMES = 1024;
const MAX_REPLIES = 16;
const MEASURED_S = 60;

/** Return the change of a skipped frame in the form of a settlement. */
function changeOf(change) {
  return {
    seq: change.seq,
    status: change.status ?? "tracked",
    newTracks: change.new ?? [],
    lostTracks: change.lost ?? [],
    foundTracks: change.found ?? [],
    endedTracks: change.ended ?? [],
    restoredTracks: change.restored ?? [],
    parents: change.parents ?? [],
    flags: change.flags ?? [],
  };
}

/** The area that the boxes of an arena without pictures have covered so far, in steps, so that it seldom changes. */
class Bounds {
  constructor() {
    this.width = 0;
    this.height = 0;
  }

  cover(settlement) {
    const { boxes } = settlement;
    let right = this.width;
    let bottom = this.height;
    for (let i = 0; i < boxes.length; i += 4) {
      if (boxes[i + 2] > right) right = boxes[i + 2];
      if (boxes[i + 3] > bottom) bottom = boxes[i + 3];
    }
    if (right > this.width) this.width = Math.ceil((right * 1.04) / 20) * 20;
    if (bottom > this.height) this.height = Math.ceil((bottom * 1.04) / 20) * 20;
  }
}

export class Stream {
  constructor(name, onShown, onZones) {
    this.name = name;
    this.zones = new Zones(name, (said, author) => onZones(this, said, author)); // they stay over resets
    this.onShown = onShown; // called when another frame is shown
    this.row = null; // of the daemon's table of streams
    this.listedAt = 0; // when it came
    this.stats = null;
    this.measured = []; // one of {p50, p99, rate} for each of the last seconds
    this.epoch = -1;
    this.isOpen = true;
    this.keepsPictures = true;
    this.restart();
  }

  /** Begin an epoch: nothing of the last one is shown any more. */
  restart() {
    this.shown = null; // the settlement whose picture is drawn
    this.bitmap?.close();
    this.bitmap = null; // the picture of `shown`
    this.skip = null; // the last frame, if it was dropped or rejected
    this.next = null; // the newest frame, while an older picture is decoded
    this.isDecoding = false;
    this.recent = new Recent();
    this.lanes = new Lanes();
    this.bounds = new Bounds();
    this.waiting = null; // what arrives while the history is read
    this.hasHistory = false;
    this.pictureError = "";
    this.generation = (this.generation ?? 0) + 1;
  }

  /** The size of the area that is drawn: [w, h] in pixels of the full picture. */
  areaOf(settlement) {
    if (settlement?.size) return settlement.size;
    const shape = this.row?.frame_shape;
    if (shape) return [shape[1], shape[0]];
    return [this.bounds.width || 640, this.bounds.height || 480];
  }

  get skeleton() {
    return this.row?.skeleton ?? null;
  }

  update(row, stats) {
    this.row = row;
    this.listedAt = performance.now();
    this.isOpen = true;
    this.stats = stats ?? null;
    const [p50, p99] = stats?.latency_ms ?? [NaN, NaN];
    this.measured.push({ p50, p99, rate: stats?.rate ?? NaN });
    if (this.measured.length > MEASURED_S) this.measured.shift();
  }

  accept(message) {
    if (message.epoch < this.epoch) return; // of before a reset
    if (message.epoch !== this.epoch) {
      this.restart();
      this.epoch = message.epoch;
    }
    const settlement = ofFrame(message);
    const changes = (message.changes ?? []).map(changeOf);
    this.trace((lanes) => {
      for (const change of changes) lanes.change(change);
      lanes.frame(settlement);
    }, settlement.seq);
    if (!settlement.tracked) {
      this.skip = settlement;
      this.onShown(this);
      return;
    }
    this.skip = null;
    if (settlement.size === null) this.bounds.cover(settlement);
    this.next = settlement;
    if (!this.isDecoding) this.showNext();
  }

  /** The trails of a settlement's tracks over the settlements before it; see `trailsOf`. */
  trails(items, end, seconds) {
    return trailsOf(items, end, seconds, (id) => this.lanes.lanes.get(id)?.exchanges ?? []);
  }

  corrected(seq, detail) {
    this.trace((lanes) => lanes.corrected(seq, detail), seq);
  }

  /** Apply something to the lanes, and again to those that are made from the history meanwhile. */
  trace(apply, seq) {
    apply(this.lanes);
    if (this.waiting !== null && this.waiting.length < MAX_WAITING) this.waiting.push({ apply, seq });
  }

  /** Show the newest frame: its picture and its tracks appear together, or not at all. */
  async showNext() {
    const generation = this.generation;
    this.isDecoding = true;
    while (this.next !== null && generation === this.generation) {
      const settlement = this.next;
      this.next = null;
      let bitmap = null;
      if (settlement.image !== null) {
        try {
          bitmap = await createImageBitmap(new Blob([settlement.image]));
        } catch {
          this.pictureError = "the browser cannot decode this picture";
        }
        if (generation !== this.generation) {
          bitmap?.close();
          return;
        }
      }
      this.bitmap?.close();
      this.bitmap = bitmap;
      this.shown = settlement;
      if (!this.keepsPictures) settlement.image = null;
      this.recent.add(settlement);
      this.onShown(this);
    }
    if (generation === this.generation) this.isDecoding = false;
  }

  /** Read the last frames from the daemon's history into the lanes, once for each epoch and connection. */
  async readHistory(request) {
    if (this.hasHistory || this.row === null || this.epoch < 0) return;
    this.hasHistory = true;
    this.waiting = [];
    const { generation, epoch } = this;
    const lanes = new Lanes();
    try {
      let from = Math.max(0, this.row.next_seq - BACKFILL_FRAMES);
      for (let reply = 0; reply < MAX_REPLIES; reply++) {
        const rows = await request("history", { stream: this.name, epoch, from_seq: from, limit: 256 });
        if (generation !== this.generation) return;
        for (const row of rows) lanes.frame(ofRow(row, this.name));
        if (rows.length === 0 || rows.at(-1).seq >= (this.waiting[0]?.seq ?? Infinity)) break;
        from = rows.at(-1).seq + 1;
      }
    } catch {
      if (generation === this.generation) this.waiting = null; // without history the lanes begin now
      return;
    }
    for (const { apply } of this.waiting) apply(lanes);
    this.waiting = null;
    this.lanes = lanes;
    this.onShown(this);
  }

  close() {
    this.isOpen = false;
    this.onShown(this);
  }
}
