// Arithmetic of a step: matrices in 8 bits times vectors in float32, the norm, and the activations.
//
// A matrix holds int8 levels and one float32 scale a row: weight[i][j] = levels[i][j] * scale[i], as models/quantize.py rounds
// it. Vectors are Float32Array, so that what is stored is rounded as PyTorch rounds it; sums within a loop are in double.

/** out = W x (+ bias): W of (rows, columns), x (columns,), out (rows,). */
export function multiply(W, x, out, bias = null) {
  const { levels, scale, rows, columns } = W;
  const whole = columns - (columns % 4);
  let at = 0;
  for (let i = 0; i < rows; i++) {
    let a = 0, b = 0, c = 0, d = 0; // four sums, so that one addition need not wait for the one before
    let j = 0;
    for (; j < whole; j += 4, at += 4) {
      a += levels[at] * x[j];
      b += levels[at + 1] * x[j + 1];
      c += levels[at + 2] * x[j + 2];
      d += levels[at + 3] * x[j + 3];
    }
    for (; j < columns; j++, at++) a += levels[at] * x[j];
    out[i] = (a + b + c + d) * scale[i] + (bias ? bias[i] : 0);
  }
  return out;
}

/** out += row `index` of W: what an embedding adds. */
export function addRow(W, index, out) {
  const { levels, scale, columns } = W;
  const start = index * columns;
  for (let j = 0; j < columns; j++) out[j] += Math.fround(levels[start + j] * scale[index]);
  return out;
}

/** out = x / rms(x) * weight, root-mean-square norm with the epsilon of models/layers.py. */
export function rmsNorm(x, weight, out) {
  let sum = 0;
  for (let j = 0; j < x.length; j++) sum += x[j] * x[j];
  const factor = 1 / Math.sqrt(sum / x.length + 1e-5);
  for (let j = 0; j < x.length; j++) out[j] = x[j] * factor * weight[j];
  return out;
}

export function silu(x) {
  return x / (1 + Math.exp(-x));
}

export function softplus(x) {
  return x > 20 ? x : Math.log1p(Math.exp(x));
}

const TWO_OVER_ODD = Float64Array.from({ length: 120 }, (_, n) => 2 / (2 * n + 1));

/** The error function, 2/√π e^(-x²) Σ (2x²)ⁿ x / (1·3·5···(2n+1)): all terms have one sign, so nothing cancels. */
export function erf(x) {
  const a = Math.abs(x);
  if (a > 4) return Math.sign(x); // what is missing to 1 is below float32's precision
  let term = a, sum = a;
  for (let n = 1; term > 1e-10 * sum; n++) sum += term *= a * a * TWO_OVER_ODD[n];
  return Math.sign(x) * (2 / Math.sqrt(Math.PI)) * Math.exp(-a * a) * sum;
}

/** The exact GELU, x Φ(x). */
export function gelu(x) {
  return 0.5 * x * (1 + erf(x * Math.SQRT1_2));
}
