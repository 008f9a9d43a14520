// Keeps the screen of a phone on while music sounds: a phone that locks its screen stops the sound.

const QUIET = 60_000; // ms after the last sound, when the screen may turn off again

let lock = null, timer = 0;

/** Called whenever something sounds. Does nothing where the browser has no such lock, or does not give it. */
export async function stayAwake() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    lock?.release();
    lock = null;
  }, QUIET);
  if (!navigator.wakeLock || (lock && !lock.released)) return;
  lock = await navigator.wakeLock.request("screen").catch(() => null);
}
