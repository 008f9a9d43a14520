// Sound -> bytes of a 16-bit WAV file.

/** `channels`: Float32Array of equal length each. */
export function writeWav(channels, rate) {
  const frames = channels[0].length, size = frames * channels.length * 2;
  const bytes = new Uint8Array(44 + size), view = new DataView(bytes.buffer);
  const write = (at, letters) => Array.from(letters, (letter, i) => (bytes[at + i] = letter.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + size, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, channels.length, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * channels.length * 2, true);
  view.setUint16(32, channels.length * 2, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, size, true);
  for (let i = 0, at = 44; i < frames; i++) {
    for (const samples of channels) {
      view.setInt16(at, Math.round(32767 * Math.max(-1, Math.min(1, samples[i]))), true);
      at += 2;
    }
  }
  return bytes;
}
