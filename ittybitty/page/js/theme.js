// Dark or light: what the reader chose on this device, else what the system prefers.

const KEY = "ittybitty theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

function chosen() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // this browser keeps nothing
  }
}

/** Sets the theme now and whenever the system's preference changes; `changed` is called after each change. */
export function followTheme(changed) {
  const set = () => {
    document.documentElement.dataset.theme = chosen() ?? (dark.matches ? "dark" : "light");
    changed();
  };
  dark.addEventListener("change", set);
  set();
}

/** Changes between dark and light, and remembers the choice. */
export function changeTheme() {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  try {
    localStorage.setItem(KEY, root.dataset.theme);
  } catch {
    // this browser keeps nothing: the choice holds until the page is closed
  }
}
