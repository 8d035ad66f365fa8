/**
 * The colour of an id: a fixed function of the id, so that it is the same on every page and after every restart.
 *
 * Hues follow the golden angle, by which consecutive ids differ most; three levels of lightness repeat. OKLCH has an even
 * lightness, so every id is legible on the same background. The conversion is from https://bottosson.github.io/posts/oklab/.
 */

const GOLDEN_ANGLE = 137.50776;
const LEVELS = { dark: [0.78, 0.7, 0.86], light: [0.58, 0.5, 0.65] };
const CHROMA = 0.16;
const cache = { dark: new Map(), light: new Map() };

function linearRgb(lightness, chroma, hue) {
  const a = chroma * Math.cos(hue);
  const b = chroma * Math.sin(hue);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
}

function gamma(channel) {
  const light = channel <= 0.0031308 ? 12.92 * channel : 1.055 * channel ** (1 / 2.4) - 0.055;
  return Math.round(255 * Math.min(1, Math.max(0, light)));
}

function hex(id, scheme) {
  const levels = LEVELS[scheme];
  const lightness = levels[((id % levels.length) + levels.length) % levels.length];
  const hue = (((id * GOLDEN_ANGLE + 230) % 360) * Math.PI) / 180;
  let rgb;
  for (let chroma = CHROMA; chroma > 0; chroma -= 0.01) {  // the strongest colour that a screen can show
    rgb = linearRgb(lightness, chroma, hue);
    if (rgb.every((channel) => channel >= 0 && channel <= 1)) break;
  }
  return "#" + rgb.map((channel) => gamma(channel).toString(16).padStart(2, "0")).join("");
}

/** The colour of an id as #rrggbb. `scheme` is `dark` on pictures and dark backgrounds, otherwise `light`. */
export function colourOf(id, scheme = "dark") {
  if (id < 0) return scheme === "dark" ? "#b8c0cc" : "#6b7480";
  const known = cache[scheme];
  let colour = known.get(id);
  if (colour === undefined) {
    if (known.size >= 4096) known.clear();
    colour = hex(id, scheme);
    known.set(id, colour);
  }
  return colour;
}
