/** What part of a picture is seen: pixels of the picture to CSS pixels of the canvas, with zoom, movement and following. */

const MAX_ZOOM = 24;
const FOLLOW_ZOOM = 3;
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class View {
  constructor() {
    this.width = 1; // of the canvas
    this.height = 1;
    this.area = [1, 1];
    this.reset(true);
  }

  reset(atOnce = still.matches) {
    this.goal = { zoom: 1, x: 0.5, y: 0.5 }; // the centre, as parts of the area
    if (atOnce) this.now = { ...this.goal };
  }

  /** The scale at which the whole area fits. */
  get fitScale() {
    return Math.min(this.width / this.area[0], this.height / this.area[1]);
  }

  get scale() {
    return this.fitScale * this.now.zoom;
  }

  get left() {
    return this.width / 2 - this.now.x * this.area[0] * this.scale;
  }

  get top() {
    return this.height / 2 - this.now.y * this.area[1] * this.scale;
  }

  /** The point of the picture below a point of the canvas. */
  pictureAt(x, y) {
    return [(x - this.left) / this.scale, (y - this.top) / this.scale];
  }

  /** Zoom by a factor around a point of the canvas. */
  zoomAt(factor, x = this.width / 2, y = this.height / 2) {
    const zoom = Math.min(MAX_ZOOM, Math.max(1, this.goal.zoom * factor));
    const [px, py] = this.pictureAt(x, y);
    const scale = this.fitScale * zoom;
    this.goal = {
      zoom,
      x: (px - (x - this.width / 2) / scale) / this.area[0],
      y: (py - (y - this.height / 2) / scale) / this.area[1],
    };
    this.keepInside();
    this.now = { ...this.goal };
  }

  moveBy(dx, dy) {
    this.goal.x -= dx / this.scale / this.area[0];
    this.goal.y -= dy / this.scale / this.area[1];
    this.keepInside();
    this.now = { ...this.goal };
  }

  /** Move a point of the picture to the centre, and zoom in if the view is not. */
  follow(x, y, zoomsIn) {
    const zoom = zoomsIn ? Math.max(FOLLOW_ZOOM, this.goal.zoom) : this.goal.zoom;
    this.goal = { zoom, x: x / this.area[0], y: y / this.area[1] };
    this.keepInside();
  }

  keepInside() {
    const half = 0.5 / this.goal.zoom;
    this.goal.x = Math.min(1 - half, Math.max(half, this.goal.x));
    this.goal.y = Math.min(1 - half, Math.max(half, this.goal.y));
  }

  /** Come nearer to the goal; true if it is not reached yet. */
  ease(milliseconds) {
    const part = still.matches ? 1 : 1 - Math.exp(-milliseconds / 90);
    let rest = 0;
    for (const key of ["zoom", "x", "y"]) {
      const distance = this.goal[key] - this.now[key];
      this.now[key] += part * distance;
      rest = Math.max(rest, Math.abs(distance));
    }
    if (rest < 1e-3) this.now = { ...this.goal };
    return rest >= 1e-3;
  }
}
