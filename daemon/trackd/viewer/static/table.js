/** The table of tracks: the text form of the canvas. Tracks are searched, selected and hidden here. */

import { colourOf } from "./colour.js";
import { icon, make, setHidden, setText } from "./dom.js";

const MAX_ROWS = 150;
const UPDATE_MS = 250;

class Row {
  constructor(id, table) {
    this.swatch = make("span", { class: "swatch" });
    this.label = make("span", { class: "id", text: String(id) });
    this.name = make("span", { class: "name" });
    this.button = make("button", { type: "button", class: "pick", onclick: () => table.viewer.pick(id) },
      this.swatch, this.label, this.name);
    this.state = make("td", { class: "state" });
    this.score = make("td", { class: "number" });
    this.eye = make("button", { type: "button", class: "eye", onclick: () => table.viewer.toggleHidden(id) });
    this.root = make("tr", {}, make("th", { scope: "row" }, this.button), this.state, this.score,
      make("td", { class: "eye-cell" }, this.eye));
    this.isHidden = null;
    this.id = id;
  }

  update({ name, state, score, isHidden, isSelected, scheme }) {
    setText(this.name, name ?? "");
    setText(this.state, state);
    setText(this.score, score);
    const colour = colourOf(this.id, scheme);
    if (this.colour !== colour) this.swatch.style.backgroundColor = this.colour = colour;
    if (this.isHidden !== isHidden) {
      this.isHidden = isHidden;
      this.eye.replaceChildren(icon(isHidden ? "closedEye" : "eye"));
      this.eye.setAttribute("aria-label", `${isHidden ? "Show" : "Hide"} track ${this.id}`);
      this.root.classList.toggle("hidden-track", isHidden);
    }
    if (this.isSelected !== isSelected) {
      this.isSelected = isSelected;
      this.button.setAttribute("aria-pressed", String(isSelected));
      this.root.classList.toggle("selected", isSelected);
    }
  }
}

export class Table {
  /**
   * @param {object} parts body, search, count, empty and showAll elements
   * @param {object} viewer has `tableScene()`, `pick(id)`, `toggleHidden(id)`, `showAllTracks()` and `searched()`
   */
  constructor(parts, viewer) {
    this.parts = parts;
    this.viewer = viewer;
    this.rows = new Map(); // id -> Row
    this.timer = 0;
    this.updatedAt = 0;
    this.words = [];
    parts.search.addEventListener("input", () => {
      this.words = parts.search.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
      viewer.searched();
      this.update();
    });
    parts.showAll.addEventListener("click", () => viewer.showAllTracks());
  }

  /** Whether a track matches the search: an id, or a part of a name. */
  matches(id, name) {
    if (this.words.length === 0) return true;
    const text = name?.toLowerCase() ?? "";
    return this.words.some((word) => word === String(id) || (text !== "" && text.includes(word)));
  }

  /** Update soon; a table that changes at every frame cannot be read. */
  invalidate() {
    if (this.timer !== 0) return;
    this.timer = setTimeout(() => this.update(), Math.max(0, this.updatedAt + UPDATE_MS - performance.now()));
  }

  update() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.updatedAt = performance.now();
    const { settlement, lanes, hidden, selected, scheme, secondsOf } = this.viewer.tableScene();
    const entries = new Map();
    for (let row = 0; row < (settlement?.ids.length ?? 0); row++) {
      const id = settlement.ids[row];
      if (id < 0) continue;
      const score = settlement.trackScores[row];
      const isScored = score === score;
      const state = settlement.stateOf(row);
      entries.set(id, { name: settlement.nameOf(row), state, score: isScored ? score.toFixed(2) : "new" });
      for (const merged of settlement.mergedIn(row)) {
        entries.set(merged, { name: lanes?.lanes.get(merged)?.name ?? null, state: `merged with ${id}`, score: "" });
      }
    }
    for (const lane of lanes?.lanes.values() ?? []) {
      if (!lane.isLost || entries.has(lane.id)) continue;
      entries.set(lane.id, { name: lane.name, state: `lost ${secondsOf(lane.span.from)}`, score: "", isLost: true });
    }
    const present = settlement?.ids.length ?? 0;
    const chosen = [...entries.keys()].filter((id) => this.matches(id, entries.get(id).name));
    const isLost = (id) => entries.get(id).isLost === true;
    chosen.sort((a, b) => isLost(a) - isLost(b) || a - b);
    const shown = chosen.slice(0, MAX_ROWS);
    const kept = new Set(shown);
    for (const [id, row] of this.rows) {
      if (kept.has(id)) continue;
      row.root.remove();
      this.rows.delete(id);
    }
    let before = null;
    for (const id of shown) {
      let row = this.rows.get(id);
      if (row === undefined) {
        row = new Row(id, this);
        this.rows.set(id, row);
      }
      const place = before === null ? this.parts.body.firstChild : before.nextSibling;
      if (row.root !== place) this.parts.body.insertBefore(row.root, place);
      row.update({ ...entries.get(id), isHidden: hidden.has(id), isSelected: id === selected, scheme });
      row.root.classList.toggle("lost-track", isLost(id));
      before = row.root;
    }
    const lost = [...entries.values()].filter((entry) => entry.isLost).length;
    setText(this.parts.count, `${present} present${lost > 0 ? `, ${lost} lost` : ""}`);
    const more = chosen.length - shown.length;
    setText(this.parts.empty, more > 0 ? `${more} more; search for an id or a name`
      : entries.size === 0 ? "No tracks yet" : chosen.length === 0 ? "No track matches" : "");
    setHidden(this.parts.empty, this.parts.empty.textContent === "");
    setHidden(this.parts.showAll, hidden.size === 0);
    if (hidden.size > 0) setText(this.parts.showAll, `Show ${hidden.size} hidden`);
  }
}
