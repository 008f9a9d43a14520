// The step of models/mamba.py, with its names and letters: E inner width, N states, K taps, R rank of the step projection.

import { multiply, silu, softplus } from "./numbers.js";

export class Mamba {
  constructor(weights, name) {
    this.in_proj = weights.matrix(`${name}.in_proj.weight`); // (2 E, D)
    this.x_proj = weights.matrix(`${name}.x_proj.weight`); // (R + 2 N, E)
    this.dt_proj = weights.matrix(`${name}.dt_proj.weight`); // (E, R)
    this.dt_bias = weights.vector(`${name}.dt_proj.bias`);
    this.out_proj = weights.matrix(`${name}.out_proj.weight`); // (D, E)
    this.conv = weights.vector(`${name}.conv1d.weight`); // (E, 1, K)
    this.conv_bias = weights.vector(`${name}.conv1d.bias`);
    this.A = weights.vector(`${name}.A_log`).map((a) => -Math.exp(a)); // (E, N)
    this.D = weights.vector(`${name}.D`);
    [this.E, , this.K] = weights.shape(`${name}.conv1d.weight`);
    this.N = weights.shape(`${name}.A_log`)[1];
    this.R = this.dt_proj.columns;
    this.uz = new Float32Array(2 * this.E);
    this.u = new Float32Array(this.E);
    this.dtBC = new Float32Array(this.R + 2 * this.N);
    this.delta = new Float32Array(this.E);
    this.y = new Float32Array(this.E);
    this.out = new Float32Array(this.out_proj.rows);
  }

  /** All that Mamba remembers: the last K - 1 inputs of the convolution, oldest first, and the state (E, N). */
  initState() {
    return { conv: new Float32Array((this.K - 1) * this.E), ssm: new Float32Array(this.E * this.N) };
  }

  /** One step: the recurrence h = exp(Δ A) h + Δ B u, y = C h + D u, gated by silu(z). */
  step(x, state) {
    const { E, N, R, A, D, uz, u, dtBC, delta, y } = this;
    multiply(this.in_proj, x, uz); // u (E,) then z (E,)
    this.convolve(uz, state.conv);
    multiply(this.x_proj, u, dtBC); // Δ's low rank (R,), B (N,), C (N,)
    multiply(this.dt_proj, dtBC, delta, this.dt_bias);
    for (let e = 0; e < E; e++) {
      const dt = Math.fround(softplus(delta[e]));
      const drive = dt * u[e];
      let sum = 0;
      for (let n = 0, at = e * N; n < N; n++, at++) {
        const h = state.ssm[at] * Math.exp(dt * A[at]) + drive * dtBC[R + n];
        state.ssm[at] = h;
        sum += h * dtBC[R + N + n];
      }
      y[e] = (sum + D[e] * u[e]) * silu(uz[E + e]);
    }
    return multiply(this.out_proj, y, this.out);
  }

  /** u = silu(causal depthwise convolution of the last K inputs); the past moves on by one. */
  convolve(uz, past) {
    const { E, K, conv, u } = this;
    for (let e = 0; e < E; e++) {
      let sum = this.conv_bias[e] + uz[e] * conv[e * K + K - 1];
      for (let k = 0; k < K - 1; k++) sum += past[k * E + e] * conv[e * K + k];
      u[e] = silu(sum);
    }
    past.copyWithin(0, E);
    past.set(uz.subarray(0, E), (K - 2) * E);
  }
}
