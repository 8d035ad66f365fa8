/**
 * Drawing, selecting and moving zones and lines on the picture, by pointer and by keys.
 *
 * Coordinates of the pointer are CSS pixels of the canvas; points are pixels of the picture.
 */

import { keyOf, MAX_CORNERS } from "./zones.js";

const NEAR_PX = 9; // of a corner or an edge
const STEP_PX = 10; // of the picture, for an arrow key
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const rounded = ([x, y]) => [Math.round(10 * x) / 10, Math.round(10 * y) / 10];

/** The movement of an arrow key in pixels of the picture; null for any other key. */
export function movement({ key, shiftKey }) {
  return ARROWS[key]?.map((part) => part * (shiftKey ? 1 : STEP_PX)) ?? null;
}

function distanceToEdge([x, y], [ax, ay], [bx, by]) {
  const length2 = (bx - ax) ** 2 + (by - ay) ** 2 || 1e-12;
  const along = Math.min(1, Math.max(0, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length2));
  return Math.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay));
}

function edgesOf({ kind, points }) {
  const last = kind === "zone" ? points.length : points.length - 1;
  return points.slice(0, last).map((point, at) => [point, points[(at + 1) % points.length]]);
}

function isInside([x, y], { kind, points }) {
  if (kind !== "zone") return false;
  let inside = false;
  for (const [[ax, ay], [bx, by]] of edgesOf({ kind, points })) {
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}

export class Drawing {
  /**
   * @param {object} viewer has `mayAct`, `stage`, `zones` of the stream (or null), `editPlaces(change)`, and `drawn()`,
   *   `cancelDrawing()` and `drawingEnded()`, which show what has changed
   */
  constructor(viewer) {
    this.viewer = viewer;
    this.selected = null; // the key of a zone or line
    this.dragged = null; // {points, corner, from}: corner -1 moves all
    this.cancel();
  }

  /** Draw a zone or a line. With a name it replaces the one that has it. */
  start(kind, name = "") {
    this.kind = kind;
    this.name = name;
    this.points = [];
    this.cursor = null;
    this.isComplete = false; // it waits for its name
    this.viewer.drawn();
  }

  cancel() {
    this.kind = null;
    this.name = "";
    this.points = [];
    this.cursor = null;
    this.isComplete = false;
  }

  get isDrawing() {
    return this.kind !== null && !this.isComplete;
  }

  /** The selected zone or line as it is now; null if there is none. */
  get place() {
    return this.viewer.zones?.places.find((place) => keyOf(place) === this.selected) ?? null;
  }

  /** What the painter shows: all zones and lines, the dragged one where it is dragged to. */
  get shown() {
    return (this.viewer.zones?.places ?? []).map((place) => {
      const isSelected = keyOf(place) === this.selected;
      return { ...place, points: isSelected && this.dragged ? this.dragged.points : place.points, isSelected };
    });
  }

  get draft() {
    const { kind, points, cursor, isComplete } = this;
    const selected = kind === null && this.viewer.mayAct ? this.shown.find((place) => place.isSelected) : undefined;
    return { kind, points, cursor: isComplete ? null : cursor, handles: selected?.points ?? [] };
  }

  pointAt(x, y) {
    const { view } = this.viewer.stage;
    const [w, h] = view.area;
    const [px, py] = view.pictureAt(x, y);
    return rounded([Math.min(w, Math.max(0, px)), Math.min(h, Math.max(0, py))]);
  }

  near(x, y) {
    const { view } = this.viewer.stage;
    const at = view.pictureAt(x, y);
    return (point) => Math.hypot(point[0] - at[0], point[1] - at[1]) * view.scale <= NEAR_PX;
  }

  // The pointer.

  hover(x, y) {
    if (!this.isDrawing) return;
    this.cursor = this.pointAt(x, y);
    this.viewer.stage.invalidate();
  }

  /** Take a click while something is drawn. */
  click(x, y) {
    if (this.kind === "zone" && this.points.length >= 3 && this.near(x, y)(this.points[0])) this.finish();
    else this.addPoint(this.pointAt(x, y));
  }

  /** Begin to drag the selected zone or line, or one of its corners; false if the pointer is beside it. */
  press(x, y) {
    const { place } = this;
    if (this.kind !== null || place === null || !this.viewer.mayAct) return false;
    const corner = place.points.findIndex(this.near(x, y));
    if (corner < 0 && this.placeAt(x, y, true) !== place) return false;
    this.dragged = { points: place.points, corner, from: this.viewer.stage.view.pictureAt(x, y) };
    return true;
  }

  drag(x, y) {
    const { place } = this;
    if (place === null || this.dragged === null) return;
    const at = this.viewer.stage.view.pictureAt(x, y);
    const move = [at[0] - this.dragged.from[0], at[1] - this.dragged.from[1]];
    this.dragged.points = this.moved(place, move, this.dragged.corner);
    this.viewer.stage.invalidate();
  }

  /** End a drag: send what was moved, unless it was only a click. */
  async drop(isClick) {
    const { dragged, place } = this;
    if (dragged !== null && place !== null && !isClick) await this.replace({ ...place, points: dragged.points });
    if (this.dragged === dragged) this.dragged = null;
    this.viewer.stage.invalidate();
  }

  /** The points of a zone or line after a movement of one corner, or of all of them within the picture. */
  moved({ points }, [dx, dy], corner = -1) {
    const [w, h] = this.viewer.stage.view.area;
    const clamped = (value, most) => Math.min(most, Math.max(0, value));
    if (corner >= 0) {
      return points.map((point, at) => (at === corner ? rounded([clamped(point[0] + dx, w), clamped(point[1] + dy, h)]) : point));
    }
    const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
    const within = (by, low, high, most) => Math.min(Math.max(by, Math.min(0, -low)), Math.max(0, most - high));
    const [bx, by] = [within(dx, Math.min(...xs), Math.max(...xs), w), within(dy, Math.min(...ys), Math.max(...ys), h)];
    return points.map(([x, y]) => rounded([x + bx, y + by]));
  }

  /** The zone or line whose edge is at a point, or which has it inside; null if there is none. */
  placeAt(x, y, countsInside) {
    const { view } = this.viewer.stage;
    const at = view.pictureAt(x, y);
    const isHit = (place) => edgesOf(place).some(([a, b]) => distanceToEdge(at, a, b) * view.scale <= NEAR_PX);
    const places = this.viewer.zones?.places ?? [];
    if (countsInside) {
      const { place } = this;
      if (place !== null && (isHit(place) || isInside(at, place))) return place;
    }
    return places.find(isHit) ?? null;
  }

  // The keyboard.

  /** Take a key while something is drawn; false if it has another meaning. */
  key(event) {
    if (!this.isDrawing) {
      if (this.kind === null || event.key !== "Escape") return false;
      this.viewer.cancelDrawing();
      return true;
    }
    const move = movement(event);
    if (move !== null) {
      const { view } = this.viewer.stage;
      const [x, y] = this.cursor ?? view.pictureAt(view.width / 2, view.height / 2);
      const [w, h] = view.area;
      this.cursor = rounded([Math.min(w, Math.max(0, x + move[0])), Math.min(h, Math.max(0, y + move[1]))]);
      this.viewer.drawn();
    } else if (event.key === " ") {
      if (!event.repeat && this.cursor !== null) this.addPoint(this.cursor);
    } else if (event.key === "Enter") {
      this.finish();
    } else if (event.key === "Backspace") {
      this.points = this.points.slice(0, -1);
      this.viewer.drawn();
    } else if (event.key === "Escape") {
      this.viewer.cancelDrawing();
    } else {
      return false;
    }
    return true;
  }

  addPoint(point) {
    const last = this.points.at(-1);
    if (last !== undefined && last[0] === point[0] && last[1] === point[1]) return;
    this.points = [...this.points, point];
    if (this.points.length >= (this.kind === "line" ? 2 : MAX_CORNERS)) this.finish();
    else this.viewer.drawn();
  }

  /** The corners are set: ask for a name. */
  finish() {
    if (this.points.length < (this.kind === "line" ? 2 : 3)) return;
    this.isComplete = true;
    this.viewer.drawn();
  }

  // What is sent.

  /** A name that no zone or line of this kind has. */
  freeName(kind) {
    const taken = new Set((this.viewer.zones?.places ?? []).map(keyOf));
    for (let number = 1; ; number++) if (!taken.has(`${kind} ${kind}-${number}`)) return `${kind}-${number}`;
  }

  /** Send what was drawn; it stays if the daemon refuses it. */
  async save(name) {
    const place = { kind: this.kind, name, points: this.points };
    if (!(await this.replace(place))) return;
    this.cancel();
    this.selected = keyOf(place);
    this.viewer.drawingEnded();
  }

  replace(place) {
    return this.viewer.editPlaces((places) => {
      const at = places.findIndex((other) => keyOf(other) === keyOf(place));
      return at < 0 ? [...places, place] : places.map((other, index) => (index === at ? place : other));
    });
  }

  async rename(name) {
    const { place } = this;
    if (place === null || name === place.name) return;
    const renamed = { ...place, name };
    const isDone = await this.viewer.editPlaces((places) =>
      places.filter((other) => keyOf(other) !== keyOf(renamed)).map((other) => (keyOf(other) === keyOf(place) ? { ...other, name } : other)));
    if (isDone) this.select(keyOf(renamed));
  }

  remove() {
    const { place } = this;
    if (place !== null) this.viewer.editPlaces((places) => places.filter((other) => keyOf(other) !== keyOf(place)));
  }

  select(key) {
    this.selected = key;
    this.dragged = null;
    this.viewer.drawn();
  }

  selectNext() {
    const keys = (this.viewer.zones?.places ?? []).map(keyOf);
    if (keys.length > 0) this.select(keys[(keys.indexOf(this.selected) + 1) % keys.length]);
  }
}
