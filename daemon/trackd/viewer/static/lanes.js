/** The identities of one stream over its frames: when each was present, lost or ended, and what happened to it. */

const MAX_LANES = 400;
const MAX_FRAMES = 4500;
const MAX_MARKS = 600;

/** A track's states are spans of frames; the last one has no end while the track lives. */
class Lane {
  constructor(id, seq) {
    this.id = id;
    this.name = null;
    this.first = seq;
    this.seen = seq;
    this.spans = []; // {from, to (included, or Infinity), lost}
    this.marks = []; // {seq, kind, other, number of a correction}
    this.ended = false;
  }

  get span() {
    return this.spans.at(-1);
  }

  get isLost() {
    return !this.ended && this.span?.lost === true;
  }

  get isPresent() {
    return !this.ended && this.span?.lost === false;
  }

  begin(seq, lost) {
    if (this.span !== undefined && this.span.to === Infinity) {
      if (this.span.lost === lost) return;
      this.span.to = Math.max(this.span.from, seq - 1);
    }
    this.spans.push({ from: seq, to: Infinity, lost });
    if (this.spans.length > MAX_MARKS) this.spans.shift();
    this.ended = false;
  }

  end(seq) {
    if (this.span?.to === Infinity) this.span.to = Math.max(this.span.from, seq - 1);
    this.ended = true;
  }

  /** The frames from which on the id was that of another animal. */
  get exchanges() {
    return this.marks.filter((mark) => mark.number !== null && mark.kind !== "rename").map((mark) => mark.seq);
  }

  mark(seq, kind, other = null, number = null) {
    const isKnown = (mark) => (number === null ? mark.seq === seq && mark.kind === kind : mark.number === number);
    if (this.marks.some(isKnown)) return;
    this.marks.push({ seq, kind, other, number });
    if (this.marks.length > MAX_MARKS) this.marks.shift();
  }
}

export class Lanes {
  constructor() {
    this.lanes = new Map(); // id -> Lane, in the order of their first frames
    this.frameMarks = []; // {seq, kind}: low confidence, drops and rejects, which concern a whole frame
    this.last = -1; // the last seq
    this.applied = 0; // frames
  }

  lane(id, seq) {
    let lane = this.lanes.get(id);
    if (lane === undefined) {
      lane = new Lane(id, seq);
      if (this.lanes.size < MAX_LANES || this.removeOne()) this.lanes.set(id, lane);
    }
    return lane;
  }

  /** Remove a track that has ended, else one that is lost; false if all are present. */
  removeOne() {
    const lanes = [...this.lanes.values()];
    const lane = lanes.find((each) => each.ended) ?? lanes.find((each) => each.isLost);
    return lane !== undefined && this.lanes.delete(lane.id);
  }

  /**
   * Apply what changed in a frame: `{seq, status, newTracks, restoredTracks, lostTracks, foundTracks, endedTracks,
   * parents, flags}`.
   */
  change(frame) {
    if (frame.seq <= this.last) return;
    this.last = frame.seq;
    this.applied++;
    const { seq } = frame;
    frame.newTracks.forEach((id, i) => {
      const lane = this.lane(id, seq);
      lane.begin(seq, false);
      lane.seen = seq;
      const parent = frame.parents[i] ?? -1;
      lane.mark(seq, parent >= 0 ? "parent" : "birth", parent >= 0 ? parent : null);
    });
    for (const [kind, ids] of [["found", frame.foundTracks], ["restored", frame.restoredTracks]]) {
      for (const id of ids) {
        const lane = this.lane(id, seq);
        lane.mark(seq, kind);
        if (frame.lostTracks.includes(id)) continue; // restored as a lost track
        lane.begin(seq, false);
        lane.seen = seq;
      }
    }
    for (const id of frame.lostTracks) {
      const lane = this.lane(id, seq);
      lane.begin(seq, true);
      lane.mark(seq, "lost");
    }
    for (const id of frame.endedTracks) {
      const lane = this.lane(id, seq);
      lane.end(seq);
      lane.mark(seq, "end");
    }
    if (frame.flags.includes("low_confidence")) this.markFrame(seq, "low_confidence");
    if (frame.status === "dropped" || frame.status === "rejected") this.markFrame(seq, frame.status);
    if (this.applied % 256 === 0) this.trim(seq - MAX_FRAMES);
  }

  /** Apply a frame with all its tracks. */
  frame(settlement) {
    if (settlement.seq <= this.last) return;
    this.change(settlement);
    if (!settlement.tracked) return;
    const { seq, ids } = settlement;
    for (let row = 0; row < ids.length; row++) {
      if (ids[row] < 0) continue;
      const lane = this.lane(ids[row], seq);
      lane.begin(seq, false);
      lane.seen = seq;
      lane.name = settlement.nameOf(row);
    }
    for (const lane of this.lanes.values()) if (lane.isPresent && lane.seen !== seq) lane.begin(seq, true);
    for (const detail of settlement.corrections) this.corrected(seq - 1, detail);
  }

  /** Mark a correction: it holds from the frame after `seq` on. Its event and its settlement make one mark. */
  corrected(seq, detail) {
    const [first, second = detail.into ?? detail.new_id ?? detail.replaced ?? null] = detail.tracks ?? [];
    const ids = [...(detail.tracks ?? []), detail.into, detail.new_id, detail.replaced];
    for (const id of new Set(ids)) {
      if (id === undefined || id === null || !this.lanes.has(id)) continue;
      this.lanes.get(id).mark(seq + 1, detail.action, id === first ? second : first, detail.number);
    }
    if (detail.action === "rename" && this.lanes.has(first)) this.lanes.get(first).name = detail.name ?? null;
  }

  markFrame(seq, kind) {
    this.frameMarks.push({ seq, kind });
    if (this.frameMarks.length > MAX_MARKS) this.frameMarks.shift();
  }

  /** Forget what was before a seq. */
  trim(before) {
    for (const lane of this.lanes.values()) {
      while (lane.spans.length > 0 && lane.span !== lane.spans[0] && lane.spans[0].to < before) lane.spans.shift();
      while (lane.marks.length > 0 && lane.marks[0].seq < before) lane.marks.shift();
      if (lane.ended && (lane.span?.to ?? 0) < before) this.lanes.delete(lane.id);
    }
    while (this.frameMarks.length > 0 && this.frameMarks[0].seq < before) this.frameMarks.shift();
  }

  /** The lanes that were present in some frame from `from` to `to`, oldest first. */
  between(from, to) {
    return [...this.lanes.values()].filter((lane) => lane.spans.some(
      (span) => !span.lost && span.from <= to && Math.min(span.to, this.last) >= from));
  }
}
