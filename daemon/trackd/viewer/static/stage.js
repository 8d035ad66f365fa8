/** The large canvas: draws the shown frame when something changed, and knows which track is below the pointer. */

import { draw } from "./painter.js";
import { View } from "./view.js";
import { drawDraft } from "./zones_painter.js";

const NEAR_PX = 24;
const CLICK_PX = 5;

export class Stage {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {object} viewer has `scene()`, which returns what is drawn, `clicked(x, y)`, and `drawing`, which takes the pointer
   *   while zones and lines are drawn or moved
   */
  constructor(canvas, viewer) {
    this.canvas = canvas;
    this.viewer = viewer;
    this.ctx = canvas.getContext("2d", { alpha: false });
    this.view = new View();
    this.drawn = []; // what the last drawing shows
    this.drawnSettlement = null;
    this.drawnPicture = false;
    this.drawnPlaces = [];
    this.count = 0; // drawings
    this.milliseconds = 0; // spent on them
    this.hovered = -1;
    this.isRequested = false;
    this.lastTime = 0;
    this.shown = null;
    this.frames = 0; // different frames shown
    new ResizeObserver(() => {
      this.resize();
      this.paint(performance.now()); // at once: a canvas of another size is empty
    }).observe(canvas);
    this.listen();
    this.resize();
    this.invalidate();
  }

  resize() {
    const ratio = Math.min(2, devicePixelRatio || 1);
    const { clientWidth, clientHeight } = this.canvas;
    this.canvas.width = Math.max(1, Math.round(clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(clientHeight * ratio));
    this.view.width = Math.max(1, clientWidth);
    this.view.height = Math.max(1, clientHeight);
    this.ratio = ratio;
  }

  /** Draw at the next opportunity. */
  invalidate() {
    if (this.isRequested) return;
    this.isRequested = true;
    requestAnimationFrame((time) => this.paint(time));
  }

  paint(time) {
    this.isRequested = false;
    const began = performance.now();
    const scene = this.viewer.scene();
    const { view, ctx } = this;
    view.area = scene.area;
    if (scene.following !== null) view.follow(...scene.following, false);
    const moves = view.ease(Math.min(100, time - this.lastTime));
    this.lastTime = time;
    ctx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    ctx.fillStyle = scene.scheme === "dark" ? "#0b0d11" : "#e9ecf0";
    ctx.fillRect(0, 0, view.width, view.height);
    scene.view = view;
    scene.target = this.viewer.isPicking && this.hovered !== scene.selected ? this.hovered : -1;
    this.drawn = draw(ctx, scene);
    if (scene.layers.zones) drawDraft(ctx, scene.draft, view, scene.bitmap !== null && scene.layers.picture ? "dark" : scene.scheme);
    this.drawnPlaces = scene.layers.zones ? scene.places : [];
    this.drawnSettlement = scene.settlement;
    this.drawnPicture = scene.bitmap !== null && scene.layers.picture;
    this.count++;
    this.milliseconds += performance.now() - began;
    if (moves) this.invalidate();
  }

  /** Draw a number of times as fast as the screen allows; resolves to {fps, milliseconds per drawing}. */
  measure(count) {
    const from = { count: this.count, milliseconds: this.milliseconds, time: performance.now() };
    return new Promise((resolve) => {
      const step = () => {
        const drawings = this.count - from.count;
        if (drawings >= count) {
          const seconds = (performance.now() - from.time) / 1000;
          resolve({ fps: drawings / seconds, milliseconds: (this.milliseconds - from.milliseconds) / drawings });
          return;
        }
        this.invalidate();
        requestAnimationFrame(step);
      };
      step();
    });
  }

  /** The id of the track at a point of the canvas: of the smallest box around it, else of the nearest centre; or -1. */
  idAt(x, y) {
    const settlement = this.drawnSettlement;
    if (settlement === null) return -1;
    const [px, py] = this.view.pictureAt(x, y);
    const { boxes } = settlement;
    let found = -1;
    let smallest = Infinity;
    let near = -1;
    let nearest = NEAR_PX / this.view.scale;
    for (const { id } of this.drawn) {
      if (id < 0) continue;
      const row = settlement.rowOf(id);
      const [x1, y1, x2, y2] = boxes.subarray(4 * row, 4 * row + 4);
      if (px >= x1 && px <= x2 && py >= y1 && py <= y2 && (x2 - x1) * (y2 - y1) < smallest) {
        smallest = (x2 - x1) * (y2 - y1);
        found = id;
      }
      const distance = Math.hypot(px - (x1 + x2) / 2, py - (y1 + y2) / 2);
      if (distance < nearest) {
        nearest = distance;
        near = id;
      }
    }
    return found >= 0 ? found : near;
  }

  point(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  listen() {
    const { canvas, view } = this;
    const down = new Map(); // pointer id -> its last event
    const { drawing } = this.viewer;
    let moved = 0;
    let distance = 0;
    let isDragging = false; // a zone or line
    canvas.addEventListener("pointerdown", (event) => {
      down.set(event.pointerId, event);
      moved = 0;
      distance = 0;
      if (event.pointerType === "mouse") canvas.setPointerCapture(event.pointerId);
      isDragging = down.size === 1 && drawing.press(...this.point(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      const last = down.get(event.pointerId);
      if (last === undefined) {
        drawing.hover(...this.point(event));
        const hovered = this.idAt(...this.point(event));
        if (hovered !== this.hovered) {
          this.hovered = hovered;
          canvas.classList.toggle("on-track", hovered >= 0);
          if (this.viewer.isPicking) this.invalidate();
        }
        return;
      }
      down.set(event.pointerId, event);
      moved += Math.abs(event.clientX - last.clientX) + Math.abs(event.clientY - last.clientY);
      if (isDragging) {
        if (moved > CLICK_PX) drawing.drag(...this.point(event));
      } else if (down.size === 2) {
        const [a, b] = [...down.values()];
        const now = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
        const [x, y] = this.point({ clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 });
        if (distance > 0) view.zoomAt(now / distance, x, y);
        distance = now;
        this.zoomed();
      } else if (view.goal.zoom > 1 && moved > CLICK_PX) {
        this.viewer.stopFollowing();
        view.moveBy(event.clientX - last.clientX, event.clientY - last.clientY);
        this.invalidate();
      }
    });
    canvas.addEventListener("pointerup", (event) => {
      const isClick = down.delete(event.pointerId) && moved <= CLICK_PX;
      if (isDragging) drawing.drop(isClick);
      isDragging = false;
      if (isClick) this.viewer.clicked(...this.point(event));
    });
    canvas.addEventListener("pointercancel", (event) => {
      down.delete(event.pointerId);
      drawing.drop(true);
      isDragging = false;
    });
    canvas.addEventListener("pointerleave", () => {
      this.hovered = -1;
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      view.zoomAt(Math.exp(-event.deltaY / (event.deltaMode === 1 ? 18 : 400)), ...this.point(event));
      this.zoomed();
    }, { passive: false });
  }

  zoom(factor) {
    this.view.zoomAt(factor);
    this.zoomed();
  }

  fit() {
    this.viewer.stopFollowing();
    this.view.reset();
    this.zoomed();
  }

  zoomed() {
    this.canvas.classList.toggle("zoomed", this.view.goal.zoom > 1); // a finger then moves the picture, not the page
    this.viewer.onZoom?.(this.view.goal.zoom);
    this.invalidate();
  }
}
