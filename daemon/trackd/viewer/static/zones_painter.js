/** Draws zones and lines on the picture, and the one that a person is drawing. */

import { label } from "./label.js";

const COLOURS = { dark: "#ffd166", light: "#8a5a00" };
const HANDLE_PX = 4.5;
const ARROW_PX = 11;

function trace(ctx, points, view, isClosed) {
  ctx.beginPath();
  points.forEach(([px, py], at) => {
    const x = view.left + px * view.scale;
    const y = view.top + py * view.scale;
    if (at === 0) ctx.moveTo(x, y);
    else ctx.lineTo(x, y);
  });
  if (isClosed) ctx.closePath();
}

/** The head of an arrow at a line's end: whoever walks towards it has the right side at the right hand. */
function drawHead(ctx, [[ax, ay], [bx, by]], view) {
  const x = view.left + bx * view.scale;
  const y = view.top + by * view.scale;
  const angle = Math.atan2(by - ay, bx - ax);
  ctx.beginPath();
  ctx.moveTo(x, y);
  for (const side of [-0.4, 0.4]) ctx.lineTo(x - ARROW_PX * Math.cos(angle + side), y - ARROW_PX * Math.sin(angle + side));
  ctx.closePath();
  ctx.fill();
}

function drawHandles(ctx, points, view) {
  for (const [px, py] of points) {
    ctx.beginPath();
    ctx.arc(view.left + px * view.scale, view.top + py * view.scale, HANDLE_PX, 0, 7);
    ctx.fill();
    ctx.stroke();
  }
}

function drawPlace(ctx, { kind, name, points, isSelected }, view, colour, scheme) {
  const isZone = kind === "zone";
  trace(ctx, points, view, isZone);
  ctx.fillStyle = ctx.strokeStyle = colour;
  if (isZone) {
    ctx.globalAlpha = isSelected ? 0.2 : 0.09;
    ctx.fill("evenodd");
  }
  ctx.globalAlpha = 1;
  ctx.lineWidth = isSelected ? 2.5 : 1.5;
  ctx.stroke();
  if (!isZone) drawHead(ctx, points, view);
  const { canvas, width, height } = label(name, colour, scheme);
  const x = Math.min(view.width - width, Math.max(0, view.left + points[0][0] * view.scale + 4));
  const y = Math.min(view.height - height, Math.max(0, view.top + points[0][1] * view.scale + 4));
  ctx.drawImage(canvas, x, y, width, height);
}

/**
 * Draw zones and lines.
 *
 * @param {object[]} places {kind, name, points, isSelected}
 * @param {string} scheme `dark` on pictures
 */
export function drawPlaces(ctx, places, view, scheme) {
  ctx.lineJoin = "round";
  for (const place of places) drawPlace(ctx, place, view, COLOURS[scheme], scheme);
}

/**
 * Draw what is being drawn or can be dragged.
 *
 * @param {object} draft {kind, points, cursor, handles}: the corners so far, the point that would be next or null, and the corners that
 *   can be dragged
 */
export function drawDraft(ctx, { kind, points, cursor, handles }, view, scheme) {
  ctx.strokeStyle = scheme === "dark" ? "#0d1015" : "#ffffff";
  ctx.fillStyle = COLOURS[scheme];
  ctx.lineWidth = 1.5;
  drawHandles(ctx, handles, view);
  if (kind === null) return;
  ctx.strokeStyle = COLOURS[scheme];
  ctx.lineWidth = 2;
  trace(ctx, cursor === null ? points : [...points, cursor], view, kind === "zone" && cursor === null);
  ctx.stroke();
  ctx.strokeStyle = scheme === "dark" ? "#0d1015" : "#ffffff";
  ctx.lineWidth = 1.5;
  drawHandles(ctx, points, view);
  if (cursor === null) return;
  const x = view.left + cursor[0] * view.scale;
  const y = view.top + cursor[1] * view.scale;
  ctx.strokeStyle = COLOURS[scheme];
  ctx.beginPath();
  ctx.moveTo(x - 9, y);
  ctx.lineTo(x + 9, y);
  ctx.moveTo(x, y - 9);
  ctx.lineTo(x, y + 9);
  ctx.stroke();
}
