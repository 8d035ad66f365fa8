/** One settled frame: its tracks and, if it was sent with them, its own picture. */

const NO_IDS = new Int32Array(0);
const NO_NUMBERS = new Float32Array(0);

/** Numbers of a binary value, which begins at any byte of its message. */
function numbers(Kind, binary, none) {
  return binary ? new Kind(binary.slice().buffer) : none;
}

export class Settlement {
  constructor(header) {
    this.stream = header.stream;
    this.epoch = header.epoch;
    this.seq = header.seq;
    this.frameIndex = header.frame_index;
    this.seconds = header.t_ns / 1e9; // capture time
    this.status = header.status;
    this.reason = header.reason ?? "";
    this.newTracks = header.new_tracks ?? [];
    this.lostTracks = header.lost_tracks ?? [];
    this.foundTracks = header.found_tracks ?? [];
    this.endedTracks = header.ended_tracks ?? [];
    this.restoredTracks = header.restored_tracks ?? []; // ended before, and live again by an undo
    this.parents = header.parents ?? [];
    this.flags = header.flags ?? [];
    this.tentative = new Set(header.tentative_tracks ?? []); // ids
    this.merged = new Map(); // by row of a box of several tracks: the ids of those that are in it beside its own
    (header.merged_tracks ?? []).forEach((id, k) => {
      const row = header.merged_rows[k];
      this.merged.set(row, [...(this.merged.get(row) ?? []), id]);
    });
    this.names = header.names ?? null;
    this.corrections = header.corrections ?? []; // of the time between the last tracked frame and this one
    this.ids = NO_IDS; // (n)
    this.trackScores = NO_NUMBERS; // (n), NaN if new
    this.boxes = NO_NUMBERS; // (n * 4), x1 y1 x2 y2, pixels of the full picture
    this.keypoints = null; // (n * nodes * 2), NaN if not visible
    this.nodes = 0;
    this.scores = null; // (n), the detector's
    this.outlines = null; // for each instance its polygons
    this.size = null; // [w, h] of the full picture
    this.image = null; // the file's bytes
  }

  get tracked() {
    return this.status === "tracked";
  }

  /** The row of an id, or -1. */
  rowOf(id) {
    return this.ids.indexOf(id);
  }

  /** The ids of the tracks that are in the box of a row beside its own. */
  mergedIn(row) {
    return this.merged.get(row) ?? [];
  }

  /** Whether an id is in the box of another one. */
  isMerged(id) {
    for (const ids of this.merged.values()) if (ids.includes(id)) return true;
    return false;
  }

  isTentative(row) {
    return this.tentative.has(this.ids[row]);
  }

  stateOf(row) {
    return this.isTentative(row) ? "tentative" : "present";
  }

  nameOf(row) {
    return this.names?.[row] ?? null;
  }

  centreX(row) {
    return (this.boxes[4 * row] + this.boxes[4 * row + 2]) / 2;
  }

  centreY(row) {
    return (this.boxes[4 * row + 1] + this.boxes[4 * row + 3]) / 2;
  }
}

/** The settlement of a `frame` message. */
export function ofFrame(message) {
  const settlement = new Settlement(message);
  settlement.ids = numbers(Int32Array, message.track_ids, NO_IDS);
  settlement.trackScores = numbers(Float32Array, message.track_scores, NO_NUMBERS);
  settlement.boxes = numbers(Float32Array, message.boxes, NO_NUMBERS);
  settlement.keypoints = numbers(Float32Array, message.keypoints, null);
  settlement.nodes = message.n_nodes ?? 0;
  settlement.scores = numbers(Float32Array, message.scores, null);
  settlement.size = message.size ?? null;
  settlement.image = message.image ? message.image.slice() : null;
  settlement.outlines = (message.outlines ?? null)?.map((polygons) =>
    (Array.isArray(polygons) ? polygons : [polygons]).map((points) => numbers(Float32Array, points, NO_NUMBERS)));
  return settlement;
}

/** The settlement of a row of `history`, whose arrays are nested lists. It has no picture. */
export function ofRow(row, stream) {
  const settlement = new Settlement({ stream, ...row });
  settlement.ids = Int32Array.from(row.track_ids ?? []);
  settlement.trackScores = Float32Array.from(row.track_scores ?? []);
  settlement.boxes = Float32Array.from((row.boxes ?? []).flat());
  if (row.keypoints) {
    settlement.keypoints = Float32Array.from(row.keypoints.flat(2));
    settlement.nodes = row.keypoints[0]?.length ?? 0;
  }
  settlement.scores = row.scores ? Float32Array.from(row.scores) : null;
  return settlement;
}
