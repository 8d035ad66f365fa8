/** A small picture of every stream; the one that is shown large is marked. */

import { make, setText } from "./dom.js";
import { draw } from "./painter.js";
import { View } from "./view.js";

const LAYERS = { picture: true, boxes: true, ids: false, scores: false, trails: false, keypoints: false, outlines: false, zones: false };

class Tile {
  constructor(stream, onSelect) {
    this.stream = stream;
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.name = make("span", { class: "tile-name", text: stream.name });
    this.state = make("span", { class: "tile-state" });
    this.button = make("button", { class: "tile", type: "button", onclick: () => onSelect(stream.name) },
      this.canvas, make("span", { class: "tile-text" }, this.name, this.state));
    this.view = new View();
    this.isRequested = false;
  }

  invalidate(scheme) {
    this.scheme = scheme;
    if (this.isRequested) return;
    this.isRequested = true;
    requestAnimationFrame(() => this.paint());
  }

  paint() {
    this.isRequested = false;
    const { stream, canvas, view } = this;
    const ratio = Math.min(2, devicePixelRatio || 1);
    const { clientWidth: width, clientHeight: height } = canvas;
    if (width === 0) return;
    if (canvas.width !== Math.round(width * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    view.width = width;
    view.height = height;
    view.area = stream.areaOf(stream.shown);
    const ctx = canvas.getContext("2d");
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, width, height);
    draw(ctx, {
      settlement: stream.shown, bitmap: stream.bitmap, view, layers: LAYERS, scheme: this.scheme, trails: new Map(),
      skeleton: null, isHidden: () => false, isDimmed: () => false, selected: -1, target: -1, isSmall: true,
    });
    const count = stream.shown?.ids.length ?? 0;
    const recorded = stream.isOpen && stream.row?.recording ? "● rec " : "";
    setText(this.state, stream.row?.unavailable ? "unavailable" : stream.isOpen ? `${recorded}${count}` : "closed");
  }
}

export class Tiles {
  /**
   * @param {HTMLElement} list gets the tiles
   * @param {HTMLElement} after a child of it that stays behind the tiles
   * @param {function(string)} onSelect is called with the name of a stream
   */
  constructor(list, after, onSelect) {
    this.list = list;
    this.after = after;
    this.onSelect = onSelect;
    this.tiles = new Map(); // name -> Tile
  }

  /** Show one tile for each stream; hide the list if there is only one, and no row of another member. */
  update(streams, selected, hasOthers) {
    for (const [name, tile] of this.tiles) {
      if (streams.get(name) === tile.stream) continue;
      tile.button.remove();
      this.tiles.delete(name);
    }
    for (const stream of streams.values()) {
      if (this.tiles.has(stream.name)) continue;
      const tile = new Tile(stream, this.onSelect);
      this.tiles.set(stream.name, tile);
      this.list.insertBefore(tile.button, this.after);
    }
    for (const [name, tile] of this.tiles) {
      if (name === selected) tile.button.setAttribute("aria-current", "true");
      else tile.button.removeAttribute("aria-current");
    }
    document.body.classList.toggle("one-stream", streams.size <= 1 && !hasOthers);
  }

  invalidate(stream, scheme) {
    this.tiles.get(stream.name)?.invalidate(scheme);
  }
}
