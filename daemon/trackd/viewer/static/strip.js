/** The measurements of a stream: latency, rate, queue, drops and rejects, each with its last minute where that helps. */

import { make, setText } from "./dom.js";

function number(value, digits) {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(digits);
}

function milliseconds(value) {
  return number(value, value < 10 ? 2 : value < 100 ? 1 : 0);
}

function reasonsOf(counts) {
  const reasons = Object.entries(counts ?? {}).filter(([, count]) => count > 0);
  return reasons.map(([reason, count]) => `${count} ${reason.replaceAll("_", " ")}`).join(", ");
}

class Cell {
  constructor(list, title, hasLine = false) {
    this.value = make("span", { class: "value", text: "–" });
    this.detail = make("span", { class: "detail" });
    this.line = hasLine ? make("canvas", { class: "line", "aria-hidden": "true" }) : null;
    this.root = make("div", { class: "cell" }, make("dt", { text: title }),
      make("dd", {}, this.value, this.detail, ...(this.line ? [this.line] : [])));
    list.append(this.root);
  }

  set(value, detail = "", level = "") {
    setText(this.value, value);
    setText(this.detail, detail);
    this.root.dataset.level = level;
  }

  /** Draw the last values from left to right, up to the highest of them. */
  draw(values) {
    const { line } = this;
    const ratio = Math.min(2, devicePixelRatio || 1);
    const width = line.clientWidth;
    const height = line.clientHeight;
    if (width === 0) return;
    line.width = width * ratio;
    line.height = height * ratio;
    const ctx = line.getContext("2d");
    ctx.scale(ratio, ratio);
    const highest = Math.max(1e-6, ...values.filter((value) => value === value));
    ctx.beginPath();
    values.forEach((value, index) => {
      if (value !== value) return;
      ctx.lineTo(width - (values.length - 1 - index) * (width / 59), height - 2 - (value / highest) * (height - 4));
    });
    ctx.strokeStyle = getComputedStyle(line).color;
    ctx.lineWidth = 1.25;
    ctx.stroke();
  }
}

export class Strip {
  constructor(list) {
    this.latency = new Cell(list, "Latency p50 / p99", true);
    this.rate = new Cell(list, "Frames a second", true);
    this.queue = new Cell(list, "Queue");
    this.drops = new Cell(list, "Dropped");
    this.rejects = new Cell(list, "Rejected");
    this.tracks = new Cell(list, "Tracks");
  }

  update(stream) {
    const stats = stream?.stats ?? {};
    const [p50, p99] = stats.latency_ms ?? [NaN, NaN];
    this.latency.set(`${milliseconds(p50)} / ${milliseconds(p99)}`, "ms");
    this.latency.draw(stream?.measured.map((second) => second.p99) ?? []);
    this.rate.set(number(stats.rate, 1));
    this.rate.draw(stream?.measured.map((second) => second.rate) ?? []);
    const queued = stream?.row?.queued ?? null;
    const depth = stats.queue_depth ?? 0;
    this.queue.set(number(queued, 0), depth > 0 ? `of ${depth}` : "", depth > 0 && queued > depth / 2 ? "warn" : "");
    const dropped = stream?.row?.dropped ?? 0;
    this.drops.set(String(dropped), reasonsOf(stats.drops), dropped > 0 ? "warn" : "");
    const rejected = stream?.row?.rejected ?? 0;
    this.rejects.set(String(rejected), reasonsOf(stats.rejects_by_code), rejected > 0 ? "bad" : "");
    this.tracks.set(String(stream?.row?.active_tracks ?? "–"));
  }
}
