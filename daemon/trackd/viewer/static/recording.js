/** The recording of the large stream: its button, and its state and time for everybody. */

import { byId, setHidden, setText } from "./dom.js";

const TICK_MS = 1000;

/** Seconds as 0:07 or 1:02:03. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return `${hours > 0 ? `${hours}:${two(minutes)}` : minutes}:${two(whole % 60)}`;
}

/** Say an event of a recording in words. */
export function described({ action, recording, author, seconds, messages, missing, reason }) {
  const by = author && author !== "viewer" ? ` (${author})` : "";
  if (action === "started") return `recording ${recording} is started${by}`;
  const lacks = missing > 0 ? `, ${missing} are missing` : "";
  const why = reason ? `: ${reason}` : "";
  return `recording ${recording} has ended after ${clock(seconds)}, ${messages} messages${lacks}${by}${why}`;
}

export class Recording {
  /** @param {object} viewer has `mayAct`, `stream`, `log` and `connection` */
  constructor(viewer) {
    this.viewer = viewer;
    this.isAsking = false;
    byId("record").addEventListener("click", () => this.toggle());
    setInterval(() => this.update(), TICK_MS);
  }

  /** The recording of the large stream as the daemon's last table of streams has it; null: it is not recorded. */
  get row() {
    return this.viewer.stream?.isOpen ? (this.viewer.stream.row?.recording ?? null) : null;
  }

  async toggle() {
    const { stream, mayAct, connection, log } = this.viewer;
    if (stream === null || !mayAct || this.isAsking) return;
    const method = this.row === null ? "recording.start" : "recording.stop";
    this.isAsking = true;
    this.update();
    try {
      await connection.request(method, { stream: stream.name, author: "viewer" });
    } catch (error) {
      log.add(`${stream.name}: ${error.message}`, "bad");
    }
    this.isAsking = false;
    this.update();
  }

  update() {
    const { stream, mayAct } = this.viewer;
    const { row } = this;
    const button = byId("record");
    setHidden(button, !mayAct || stream === null);
    if (button.disabled !== this.isAsking) button.disabled = this.isAsking;
    setText(byId("record-text"), row === null ? "Record" : "Stop recording");
    button.setAttribute("aria-pressed", String(row !== null));
    setHidden(byId("recording"), row === null);
    if (row === null) return;
    const since = (performance.now() - stream.listedAt) / 1000;
    setText(byId("recording"), `recording ${clock(row.seconds + since)}`);
  }
}
