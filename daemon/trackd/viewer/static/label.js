/** Labels on the picture: a text on a coloured ground. Each is drawn once and kept, since fonts are slow to draw. */

const MAX_SPRITES = 600;
const FONT = "600 11px system-ui, sans-serif";

const sprites = new Map(); // text and colours -> a label's picture

/** Return {canvas, width, height} in CSS pixels. */
export function label(text, colour, scheme) {
  const ratio = Math.min(3, devicePixelRatio || 1);
  const key = `${text}\n${colour}\n${ratio}`;
  let sprite = sprites.get(key);
  if (sprite !== undefined) return sprite;
  if (sprites.size >= MAX_SPRITES) sprites.clear();
  const canvas = document.createElement("canvas");
  let ctx = canvas.getContext("2d");
  ctx.font = FONT;
  const width = Math.ceil(ctx.measureText(text).width) + 10;
  canvas.width = width * ratio;
  canvas.height = 17 * ratio;
  ctx = canvas.getContext("2d");
  ctx.scale(ratio, ratio);
  ctx.fillStyle = colour;
  ctx.beginPath();
  ctx.roundRect(0, 0, width, 17, 4);
  ctx.fill();
  ctx.fillStyle = scheme === "dark" ? "#0d1015" : "#ffffff";
  ctx.font = FONT;
  ctx.textBaseline = "middle";
  ctx.fillText(text, 5, 9);
  sprite = { canvas, width, height: 17 };
  sprites.set(key, sprite);
  return sprite;
}
