/** Light and dark: the system's choice until the switch is used, then the user's. */

const KEY = "trackd.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function stored() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // storage can be forbidden
  }
}

export class Theme {
  constructor(onChange) {
    this.chosen = stored();
    this.onChange = onChange;
    system.addEventListener("change", () => this.apply());
    this.apply();
  }

  /** `light` or `dark`. */
  get scheme() {
    return this.chosen ?? (system.matches ? "dark" : "light");
  }

  toggle() {
    this.chosen = this.scheme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem(KEY, this.chosen);
    } catch {
      // It stays in memory.
    }
    this.apply();
  }

  apply() {
    document.documentElement.dataset.theme = this.scheme;
    this.onChange?.();
  }
}
