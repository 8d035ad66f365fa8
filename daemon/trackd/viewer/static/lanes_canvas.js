/** The identity lanes as a picture: one row a track, time from left to right, and marks where something happened. */

import { colourOf } from "./colour.js";

const LABEL_PX = 52;
const AXIS_PX = 18;
const ROW_PX = [3, 16];
const RIGHT_PX = 10;
const GAP_PX = 7; // a shorter absence is a notch without marks
const WORDS = {
  birth: "new", parent: "divided from", lost: "lost", found: "found again", end: "ended",
  restored: "restored", swap: "swapped with",
  merge: "merged with", new_id: "new id", rename: "renamed", undo: "correction undone", low_confidence: "low confidence",
  dropped: "frame dropped", rejected: "frame rejected",
};
const COLOURS = {
  dark: { text: "#8d97a5", line: "#262d36", cursor: "#e8ebf0", warn: "#e5b454", bad: "#ef7b76", row: "#1a2027" },
  light: { text: "#667080", line: "#e3e7ec", cursor: "#1b2027", warn: "#b07408", bad: "#c93a35", row: "#f1f3f6" },
};

function niceStep(seconds) {
  const power = 10 ** Math.floor(Math.log10(seconds));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= seconds);
}

export class LanesCanvas {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HTMLElement} caption where the thing below the pointer is described
   * @param {object} viewer has `lanesScene()`, `scrub(seq)` and `pick(id)`
   */
  constructor(canvas, caption, viewer) {
    this.canvas = canvas;
    this.caption = caption;
    this.viewer = viewer;
    this.ctx = canvas.getContext("2d");
    this.frames = 600; // the width in frames
    this.rows = [];
    this.isRequested = false;
    this.drawnAt = 0;
    new ResizeObserver(() => {
      this.resize();
      this.paint(); // at once: a canvas of another size is empty
    }).observe(canvas);
    this.listen();
    this.resize();
  }

  resize() {
    this.ratio = Math.min(2, devicePixelRatio || 1);
    this.width = Math.max(1, this.canvas.clientWidth);
    this.height = Math.max(1, this.canvas.clientHeight);
    this.canvas.width = Math.round(this.width * this.ratio);
    this.canvas.height = Math.round(this.height * this.ratio);
  }

  /** Draw soon, at most ten times a second. */
  invalidate() {
    if (this.isRequested) return;
    this.isRequested = true;
    const wait = Math.max(0, this.drawnAt + 100 - performance.now());
    setTimeout(() => requestAnimationFrame(() => this.paint()), wait);
  }

  xOf(seq) {
    return LABEL_PX + ((seq - this.from) / this.frames) * (this.width - LABEL_PX - RIGHT_PX);
  }

  seqAt(x) {
    return Math.round(this.from + ((x - LABEL_PX) / (this.width - LABEL_PX - RIGHT_PX)) * this.frames);
  }

  paint() {
    this.isRequested = false;
    this.drawnAt = performance.now();
    const { lanes, scheme, cursor, selected, seconds, isPaused } = this.viewer.lanesScene();
    const { ctx, width, height } = this;
    const colours = COLOURS[scheme];
    ctx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    ctx.clearRect(0, 0, width, height);
    this.rows = [];
    this.lanes = lanes;
    if (lanes === null || lanes.last < 0) return;
    let right = lanes.last;
    if (isPaused && (this.held === undefined || cursor < this.held - this.frames || cursor > this.held)) {
      this.held = Math.min(right, Math.max(cursor, this.held === undefined ? right : cursor + (this.frames >> 1)));
    }
    if (isPaused) right = this.held; // the past stands still while it is looked at
    else this.held = undefined;
    this.from = right - this.frames;
    this.right = right;

    const alive = lanes.between(this.from, right);
    const space = height - AXIS_PX;
    const most = Math.floor(space / ROW_PX[0]);
    let shown = alive;
    if (alive.length > most) { // those that are present come first
      const chosen = new Set([...alive].sort((a, b) =>
        (b.id === selected) - (a.id === selected) || b.isPresent - a.isPresent || b.seen - a.seen).slice(0, most));
      shown = alive.filter((lane) => chosen.has(lane));
    }
    const rowHeight = Math.min(ROW_PX[1], Math.max(ROW_PX[0], space / Math.max(1, shown.length)));
    this.drawAxis(colours, right, seconds, space);
    const yOf = new Map();
    shown.forEach((lane, index) => yOf.set(lane.id, index * rowHeight + rowHeight / 2));
    for (const lane of shown) this.drawLane(lane, yOf, rowHeight, colours, scheme, lane.id === selected, right);
    this.drawFrameMarks(lanes.frameMarks, colours, space);
    if (isPaused) {
      const x = Math.round(this.xOf(cursor)) + 0.5;
      ctx.strokeStyle = colours.cursor;
      ctx.lineWidth = 1.5;
      ctx.beginPath();
      ctx.moveTo(x, 0);
      ctx.lineTo(x, height);
      ctx.stroke();
    }
    this.hiddenRows = alive.length - shown.length;
  }

  drawAxis(colours, right, seconds, space) {
    const { ctx } = this;
    ctx.font = "10.5px system-ui, sans-serif";
    ctx.textBaseline = "middle";
    ctx.fillStyle = colours.text;
    ctx.strokeStyle = colours.line;
    ctx.lineWidth = 1;
    const isTimed = seconds > 0; // seconds a frame
    const unit = isTimed ? seconds : 1;
    const step = niceStep((this.frames * unit) / 7);
    ctx.beginPath();
    for (let ago = 0; ago <= this.frames * unit; ago += step) {
      const x = Math.round(this.xOf(right - ago / unit)) + 0.5;
      if (x < LABEL_PX) break;
      ctx.moveTo(x, 0);
      ctx.lineTo(x, space);
      const text = ago === 0 ? (isTimed ? "now" : `frame ${right}`) : isTimed ? `−${+ago.toPrecision(3)} s` : `−${ago}`;
      ctx.textAlign = ago === 0 ? "right" : "center";
      const at = ago === 0 ? this.width - 2 : x;
      if (ago === 0 || at < this.width - 60) ctx.fillText(text, at, space + AXIS_PX / 2 + 1);
    }
    ctx.stroke();
    ctx.textAlign = "left";
  }

  drawLane(lane, yOf, rowHeight, colours, scheme, isSelected, right) {
    const { ctx } = this;
    const y = yOf.get(lane.id);
    const colour = colourOf(lane.id, scheme);
    const thick = Math.max(1.5, Math.min(7, rowHeight * 0.45));
    this.rows.push({ lane, top: y - rowHeight / 2, bottom: y + rowHeight / 2 });
    if (isSelected) {
      ctx.fillStyle = colours.row;
      ctx.fillRect(0, y - rowHeight / 2, this.width, rowHeight);
    }
    if (rowHeight >= 9) {
      ctx.fillStyle = isSelected ? colours.cursor : colours.text;
      ctx.font = `${isSelected ? 600 : 400} 11px system-ui, sans-serif`;
      ctx.textAlign = "right";
      ctx.fillText(lane.name ? `${lane.id} ${lane.name}`.slice(0, 8) : String(lane.id), LABEL_PX - 8, y + 0.5);
      ctx.textAlign = "left";
    }
    for (const span of lane.spans) {
      const from = Math.max(this.from, span.from);
      const to = Math.min(right, span.to === Infinity ? this.lanes.last : span.to);
      if (to < from) continue;
      const x = this.xOf(from);
      const w = Math.max(1, this.xOf(to + 1) - x);
      ctx.fillStyle = colour;
      if (span.lost && span.to !== Infinity && this.isNotch(span)) {
        ctx.globalAlpha = 0.35;
        ctx.fillRect(x, y - thick / 2, w, thick);
        ctx.globalAlpha = 1;
      } else if (span.lost) {
        ctx.globalAlpha = 0.45;
        ctx.fillRect(x, y - 0.5, w, 1);
        ctx.globalAlpha = 1;
      } else {
        ctx.fillRect(x, y - thick / 2, w, thick);
      }
    }
    const notches = new Set();
    for (const span of lane.spans) {
      if (!span.lost || !this.isNotch(span)) continue;
      notches.add(`lost${span.from}`).add(`found${span.to + 1}`);
    }
    for (const mark of lane.marks) {
      if (mark.seq < this.from || mark.seq > right || notches.has(mark.kind + mark.seq)) continue;
      this.drawMark(mark, y, yOf.get(mark.other), Math.max(2, Math.min(5, rowHeight * 0.36)), colour, colours);
    }
  }

  isNotch(span) {
    return this.xOf(span.to + 1) - this.xOf(span.from) < GAP_PX;
  }

  drawMark(mark, y, otherY, r, colour, colours) {
    const { ctx } = this;
    const x = this.xOf(mark.seq);
    if (otherY !== undefined) { // a line to the parent, or to the other track of a correction
      ctx.strokeStyle = mark.kind === "parent" ? colour : colours.cursor;
      ctx.lineWidth = 1.25;
      ctx.beginPath();
      ctx.moveTo(x, otherY);
      ctx.lineTo(x, y);
      ctx.stroke();
    }
    ctx.lineWidth = 1.5;
    ctx.beginPath();
    if (mark.kind === "birth" || mark.kind === "parent") {
      ctx.arc(x, y, r, 0, 7);
      ctx.fillStyle = colour;
      ctx.fill();
    } else if (mark.kind === "lost") {
      ctx.arc(x, y, r - 0.5, 0, 7);
      ctx.fillStyle = colours.row;
      ctx.fill();
      ctx.strokeStyle = colour;
      ctx.stroke();
    } else if (mark.kind === "found") {
      ctx.moveTo(x - r, y - r);
      ctx.lineTo(x + r, y);
      ctx.lineTo(x - r, y + r);
      ctx.closePath();
      ctx.fillStyle = colour;
      ctx.fill();
    } else if (mark.kind === "end") {
      ctx.moveTo(x, y - r - 1);
      ctx.lineTo(x, y + r + 1);
      ctx.strokeStyle = colour;
      ctx.lineWidth = 2.5;
      ctx.stroke();
    } else { // a correction
      ctx.moveTo(x, y - r - 1);
      ctx.lineTo(x + r + 1, y);
      ctx.lineTo(x, y + r + 1);
      ctx.lineTo(x - r - 1, y);
      ctx.closePath();
      ctx.fillStyle = colours.cursor;
      ctx.fill();
    }
  }

  drawFrameMarks(marks, colours, space) {
    const { ctx } = this;
    for (const { seq, kind } of marks) {
      if (seq < this.from || seq > this.right) continue;
      ctx.fillStyle = kind === "low_confidence" ? colours.warn : colours.bad;
      ctx.fillRect(this.xOf(seq) - 1, space - 1, 2, 6);
    }
  }

  /** What is below a point, as text. */
  describe(x, y) {
    const seq = this.seqAt(x);
    const row = this.rows.find(({ top, bottom }) => y >= top && y < bottom);
    const nearPx = Math.max(1, Math.ceil((this.frames / this.width) * 6));
    if (row === undefined) {
      const mark = this.lanes.frameMarks.find((each) => Math.abs(each.seq - seq) <= nearPx);
      return `frame ${seq}${mark ? `: ${WORDS[mark.kind]}` : ""}`;
    }
    const { lane } = row;
    const mark = lane.marks.find((each) => Math.abs(each.seq - seq) <= nearPx);
    const what = mark ? `: ${WORDS[mark.kind] ?? mark.kind}${mark.other === null ? "" : ` ${mark.other}`}` : "";
    return `track ${lane.id}${lane.name ? ` ${lane.name}` : ""}, frame ${mark?.seq ?? seq}${what}`;
  }

  listen() {
    const { canvas } = this;
    let isDown = false;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.offsetX < LABEL_PX) {
        const row = this.rows.find(({ top, bottom }) => event.offsetY >= top && event.offsetY < bottom);
        if (row !== undefined) this.viewer.pick(row.lane.id);
        return;
      }
      isDown = true;
      canvas.setPointerCapture(event.pointerId);
      this.viewer.scrub(this.seqAt(event.offsetX));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.lanes || this.lanes.last < 0) return;
      if (isDown) this.viewer.scrub(this.seqAt(event.offsetX));
      this.caption.textContent = this.describe(event.offsetX, event.offsetY);
    });
    canvas.addEventListener("pointerup", () => {
      isDown = false;
    });
    canvas.addEventListener("pointercancel", () => {
      isDown = false;
    });
    canvas.addEventListener("pointerleave", () => {
      this.caption.textContent = "";
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.frames = Math.round(Math.min(4096, Math.max(60, this.frames * Math.exp(event.deltaY / 500))));
      this.invalidate();
    }, { passive: false });
  }
}
