/** The last settlements of a stream that this page received, with the pictures of the latest of them. */

export const TRAIL_S = 3;

const MAX_SETTLEMENTS = 900; // a minute at 15 a second
const MAX_PICTURE_BYTES = 48 * 2 ** 20;
const MAX_PICTURES = 300;
const TRAIL_POINTS = 64;

export class Recent {
  constructor() {
    this.clear();
  }

  clear() {
    this.items = []; // by seq
    this.firstPicture = 0; // no item before it has a picture
    this.pictures = 0;
    this.pictureBytes = 0;
  }

  add(settlement) {
    const last = this.items.at(-1);
    if (last !== undefined && settlement.seq <= last.seq) return; // a repetition
    this.items.push(settlement);
    if (settlement.image !== null) {
      this.pictures++;
      this.pictureBytes += settlement.image.length;
    }
    while (this.pictureBytes > MAX_PICTURE_BYTES || this.pictures > MAX_PICTURES) {
      const old = this.items[this.firstPicture++];
      if (old.image === null) continue;
      this.pictures--;
      this.pictureBytes -= old.image.length;
      old.image = null;
    }
    if (this.items.length > MAX_SETTLEMENTS + 100) { // seldom, since it moves the array
      for (const old of this.items.splice(0, 100)) {
        if (old.image === null) continue;
        this.pictures--;
        this.pictureBytes -= old.image.length;
      }
      this.firstPicture = Math.max(0, this.firstPicture - 100);
    }
  }

  /** What there is now; later frames do not replace it. */
  copy() {
    const copy = new Recent();
    copy.items = this.items.slice();
    return copy;
  }

  /** The index of the last item up to a seq, or -1. */
  indexUpTo(seq) {
    let low = 0;
    let high = this.items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.items[middle].seq <= seq) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  at(seq) {
    const item = this.items[this.indexUpTo(seq)];
    return item?.seq === seq ? item : null;
  }
}

/**
 * The trails of a settlement's tracks: Map of id -> [x, y, …], newest first, with NaN where a track was missing.
 *
 * @param {Settlement[]} items by seq, the last of which is the settlement
 * @param {number} end the index of the settlement in items
 * @param {number} seconds how far the trails go back in capture time
 * @param {function} correctedAt returns the frames from which on an id was that of another animal; its trail begins there
 */
export function trailsOf(items, end, seconds, correctedAt) {
  const trails = new Map();
  const settlement = items[end];
  const begins = new Map(); // id -> the first frame of its trail
  for (const id of settlement.ids) {
    if (id < 0) continue;
    trails.set(id, []);
    begins.set(id, Math.max(-1, ...correctedAt(id).filter((seq) => seq <= settlement.seq)));
  }
  if (trails.size === 0) return trails;
  const from = settlement.seconds - seconds;
  const seen = new Map(); // id -> the step at which it was seen last
  let step = 0;
  for (let index = end; index >= 0 && step < TRAIL_POINTS; index--) {
    const item = items[index];
    if (item.seconds < from || item.epoch !== settlement.epoch) break;
    if (!item.tracked) continue;
    for (let row = 0; row < item.ids.length; row++) {
      const trail = trails.get(item.ids[row]);
      if (trail === undefined || item.seq < begins.get(item.ids[row])) continue;
      if (seen.has(item.ids[row]) && seen.get(item.ids[row]) !== step - 1) trail.push(NaN, NaN);
      trail.push(item.centreX(row), item.centreY(row));
      seen.set(item.ids[row], step);
    }
    step++;
  }
  return trails;
}
