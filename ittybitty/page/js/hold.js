// How music is held near its seed in pace, register and loudness: tokenizers/events/hold.py, with its names and figures.

const pace = (ticks, { shortest }) => Math.log2(Math.max(ticks, shortest));

/** Running means after one more value of mean `at`, that of the piece's note number `notes`. */
export function moved(means, at, value, notes, { horizon }) {
  return means.map((mean, i) => (i === at ? mean + (value - mean) / Math.min(notes, horizon) : mean));
}

/** What a piece is held to after a seed with these running means, null for nothing: {strength, low, high}. */
export function near(means, notes, strength, ticksPerSecond, figures) {
  if (!strength || notes < figures.fewest) return null;
  const rate = Math.log2(ticksPerSecond), { lowest_pitch: lowestPitch } = figures;
  const seed = [rate - pace(means[0], figures), means[1] + lowestPitch, means[2]];
  const ranges = seed.map((value, i) => {
    const [intercept, slope, margin] = figures.habits[i], expected = intercept + slope * value;
    return [Math.min(value, expected) - margin, Math.max(value, expected) + margin];
  });
  const [[slowest, fastest], [lowest, highest], [softest, loudest]] = ranges;
  return {
    strength,
    low: [rate - fastest, lowest - lowestPitch, softest],
    high: [rate - slowest, highest - lowestPitch, loudest],
  };
}

/** What is added to a logit for each unit by which its class lies above the mean `at`. */
export function slope(held, means, at, figures) {
  const now = at ? means[at] : pace(means[0], figures), spread = figures.habits[at][3];
  const excess = now - Math.min(Math.max(now, held.low[at]), held.high[at]);
  return ((-figures.strength * held.strength) / spread ** 2) * excess;
}
