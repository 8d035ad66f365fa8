/** Draws one settlement on a canvas: picture or arena, outlines, trails, boxes, keypoints and labels. */

import { colourOf } from "./colour.js";
import { label } from "./label.js";
import { drawPlaces } from "./zones_painter.js";

const HALO = "rgba(0, 0, 0, 0.5)";
const DIMMED = 0.18;
const TRAIL_STEP_PX = 4;
const ARENA = {
  dark: { ground: "#14181e", line: "#1e242c", edge: "#2b333e" },
  light: { ground: "#ffffff", line: "#eef0f3", edge: "#d5dae1" },
};

function drawArena(ctx, view, scheme) {
  const colours = ARENA[scheme];
  const [w, h] = view.area;
  ctx.fillStyle = colours.ground;
  ctx.fillRect(view.left, view.top, w * view.scale, h * view.scale);
  const power = 10 ** Math.floor(Math.log10(56 / view.scale));
  const step = power * [2, 5, 10].find((factor) => factor * power * view.scale >= 56); // 1, 2, 5, 10 … pixels
  ctx.beginPath();
  for (let x = step; x < w; x += step) {
    ctx.moveTo(Math.round(view.left + x * view.scale) + 0.5, view.top);
    ctx.lineTo(Math.round(view.left + x * view.scale) + 0.5, view.top + h * view.scale);
  }
  for (let y = step; y < h; y += step) {
    ctx.moveTo(view.left, Math.round(view.top + y * view.scale) + 0.5);
    ctx.lineTo(view.left + w * view.scale, Math.round(view.top + y * view.scale) + 0.5);
  }
  ctx.lineWidth = 1;
  ctx.strokeStyle = colours.line;
  ctx.stroke();
  ctx.strokeStyle = colours.edge;
  ctx.strokeRect(view.left + 0.5, view.top + 0.5, w * view.scale - 1, h * view.scale - 1);
}

/** Draw a trail in two parts, of which the older is fainter. Points that are too near to be seen apart are left out. */
function drawTrail(ctx, trail, view, colour) {
  const { left, top, scale } = view;
  const alpha = ctx.globalAlpha;
  const middle = 2 * Math.floor(trail.length / 4);
  let isOn = false;
  let lastX = 0;
  let lastY = 0;
  ctx.strokeStyle = colour;
  ctx.globalAlpha = alpha * 0.85;
  ctx.beginPath();
  for (let i = 0; i < trail.length; i += 2) {
    const x = left + trail[i] * scale;
    const y = top + trail[i + 1] * scale;
    if (x !== x) { // NaN: the track was missing here
      isOn = false;
    } else if (!isOn) {
      ctx.moveTo(x, y);
      isOn = true;
      lastX = x;
      lastY = y;
    } else if (Math.abs(x - lastX) + Math.abs(y - lastY) >= TRAIL_STEP_PX) {
      ctx.lineTo(x, y);
      lastX = x;
      lastY = y;
    }
    if (i === middle) {
      ctx.stroke();
      ctx.globalAlpha = alpha * 0.35;
      ctx.beginPath();
      if (isOn) ctx.moveTo(lastX, lastY);
    }
  }
  ctx.stroke();
  ctx.globalAlpha = alpha;
}

function drawOutline(ctx, polygons, view, colour) {
  ctx.beginPath();
  for (const points of polygons) {
    for (let i = 0; i < points.length; i += 2) {
      const x = view.left + points[i] * view.scale;
      const y = view.top + points[i + 1] * view.scale;
      if (i === 0) ctx.moveTo(x, y);
      else ctx.lineTo(x, y);
    }
    ctx.closePath();
  }
  const alpha = ctx.globalAlpha;
  ctx.fillStyle = colour;
  ctx.globalAlpha = alpha * 0.22;
  ctx.fill();
  ctx.globalAlpha = alpha;
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1.5;
  ctx.stroke();
}

function drawPose(ctx, settlement, row, view, colour, edges) {
  const { keypoints, nodes } = settlement;
  const first = 2 * row * nodes;
  const x = (node) => view.left + keypoints[first + 2 * node] * view.scale;
  const y = (node) => view.top + keypoints[first + 2 * node + 1] * view.scale;
  const isSeen = (node) => node < nodes && keypoints[first + 2 * node] === keypoints[first + 2 * node];
  if (edges.length > 0) {
    ctx.beginPath();
    for (const [from, to] of edges) {
      if (!isSeen(from) || !isSeen(to)) continue;
      ctx.moveTo(x(from), y(from));
      ctx.lineTo(x(to), y(to));
    }
    ctx.strokeStyle = colour;
    ctx.lineWidth = 1.75;
    ctx.stroke();
  }
  ctx.beginPath();
  for (let node = 0; node < nodes; node++) {
    if (!isSeen(node)) continue;
    ctx.moveTo(x(node) + 2.6, y(node));
    ctx.arc(x(node), y(node), 2.6, 0, 7);
  }
  ctx.fillStyle = colour;
  ctx.fill();
}

function textOf(settlement, row, layers) {
  const id = settlement.ids[row];
  const name = settlement.nameOf(row);
  let text = layers.ids ? [name ? `${id} ${name}` : id, ...settlement.mergedIn(row)].join(" + ") : "";
  if (layers.scores) {
    const score = settlement.trackScores[row];
    const part = score === score ? score.toFixed(2) : "new";
    text += text ? ` · ${part}` : part;
  }
  return text;
}

/**
 * Draw a settlement and return what was drawn: `{id, name, x, y, colour}` for each track, at its box's centre on the canvas.
 *
 * @param {CanvasRenderingContext2D} ctx scaled to CSS pixels
 * @param {object} scene settlement, bitmap, view, layers, scheme, trails, skeleton, places (zones and lines), and the functions
 *   isHidden(id) and isDimmed(row); selected and target are ids or -1
 */
export function draw(ctx, scene) {
  const { settlement, bitmap, view, layers, skeleton } = scene;
  const isPicture = bitmap !== null && layers.picture;
  const scheme = isPicture ? "dark" : scene.scheme;
  const { left, top, scale } = view;
  const drawn = [];
  if (isPicture) {
    ctx.imageSmoothingEnabled = scale < 4;
    ctx.drawImage(bitmap, left, top, view.area[0] * scale, view.area[1] * scale);
  } else {
    drawArena(ctx, view, scheme);
  }
  if (layers.zones) drawPlaces(ctx, scene.places, view, scheme);
  if (settlement === null) return drawn;

  const { boxes, ids } = settlement;
  const rows = [];
  for (let row = 0; row < ids.length; row++) {
    if (scene.isHidden(ids[row])) continue;
    const x = left + boxes[4 * row] * scale;
    const y = top + boxes[4 * row + 1] * scale;
    const w = (boxes[4 * row + 2] - boxes[4 * row]) * scale;
    const h = (boxes[4 * row + 3] - boxes[4 * row + 1]) * scale;
    if (!(w >= 0 && h >= 0)) continue; // a detection that is not valid
    const colour = colourOf(ids[row], scheme);
    drawn.push({ id: ids[row], name: settlement.nameOf(row), x: x + w / 2, y: y + h / 2, colour });
    if (x > view.width || y > view.height || x + w < 0 || y + h < 0) continue;
    rows.push({ row, x, y, w, h, colour, alpha: scene.isDimmed(row) ? DIMMED : 1 });
  }

  if (layers.outlines && settlement.outlines) {
    for (const { row, colour, alpha } of rows) {
      ctx.globalAlpha = alpha;
      if (settlement.outlines[row]) drawOutline(ctx, settlement.outlines[row], view, colour);
    }
  }
  if (layers.trails) {
    ctx.lineJoin = "bevel"; // round joins take most of the time where the processor draws
    ctx.lineCap = "butt";
    ctx.lineWidth = 1.75;
    for (const { row, colour, alpha } of rows) {
      const trail = scene.trails.get(ids[row]);
      ctx.globalAlpha = alpha;
      if (trail !== undefined && trail.length > 2) drawTrail(ctx, trail, view, colour);
    }
  }
  ctx.lineJoin = "round";
  ctx.lineCap = "round";
  if (layers.keypoints && settlement.keypoints !== null) {
    for (const { row, colour, alpha } of rows) {
      ctx.globalAlpha = alpha;
      drawPose(ctx, settlement, row, view, colour, skeleton?.edges ?? []);
    }
  }
  ctx.globalAlpha = 1;
  if (layers.boxes) {
    if (isPicture) {
      ctx.beginPath();
      for (const { x, y, w, h, alpha } of rows) if (alpha === 1) ctx.rect(x, y, w, h);
      ctx.strokeStyle = HALO;
      ctx.lineWidth = 3.5;
      ctx.stroke();
    }
    for (const { row, x, y, w, h, colour, alpha } of rows) {
      ctx.globalAlpha = alpha;
      ctx.strokeStyle = colour;
      ctx.lineWidth = 1.75;
      const dash = ids[row] < 0 ? [4, 4] : settlement.isTentative(row) ? [9, 5] : null;
      if (dash) ctx.setLineDash(dash);
      ctx.strokeRect(x, y, w, h);
      if (dash) ctx.setLineDash([]);
    }
    ctx.globalAlpha = 1;
  }
  for (const { row, x, y, w, h, colour } of rows) {
    const id = ids[row];
    if (id < 0 || (id !== scene.selected && id !== scene.target)) continue;
    ctx.strokeStyle = isPicture || scheme === "dark" ? "#ffffff" : "#14181e";
    ctx.lineWidth = 1.5;
    if (id === scene.target) ctx.setLineDash([6, 4]);
    ctx.strokeRect(x - 4, y - 4, w + 8, h + 8);
    ctx.setLineDash([]);
    ctx.strokeStyle = colour;
    ctx.lineWidth = 3;
    ctx.strokeRect(x, y, w, h);
  }
  if ((layers.ids || layers.scores) && !scene.isSmall) {
    for (const { row, x, y, w, colour, alpha } of rows) {
      if (ids[row] < 0) continue;
      const text = textOf(settlement, row, layers);
      const { canvas, width, height } = label(text, colour, scheme);
      const lx = Math.min(view.width - width, Math.max(0, layers.boxes ? x - 1 : x + w / 2 - width / 2));
      ctx.globalAlpha = alpha;
      ctx.drawImage(canvas, lx, Math.max(0, y - height - 1), width, height);
    }
    ctx.globalAlpha = 1;
  }
  return drawn;
}
