// The tensors of a model by the names of its PyTorch state dict, as weights.py packs them: an index and one sequence of bytes.

export class Weights {
  /** `index`: name -> {shape, at, scale}; `at` and `scale` count bytes. A tensor with a scale is an int8 matrix. */
  constructor(index, bytes) {
    this.index = index;
    this.buffer = bytes.buffer;
    this.offset = bytes.byteOffset;
  }

  has(name) {
    return name in this.index;
  }

  shape(name) {
    if (!this.has(name)) throw new Error(`the page's model lacks ${name}: build the page again`);
    return this.index[name].shape;
  }

  /** A float32 tensor, flat. */
  vector(name) {
    const size = this.shape(name).reduce((a, b) => a * b, 1);
    return new Float32Array(this.buffer, this.offset + this.index[name].at, size);
  }

  /** An int8 matrix with its scales. */
  matrix(name) {
    const [rows, columns] = this.shape(name);
    const { at, scale } = this.index[name];
    return {
      rows,
      columns,
      levels: new Int8Array(this.buffer, this.offset + at, rows * columns),
      scale: new Float32Array(this.buffer, this.offset + scale, rows),
    };
  }
}

/** Bytes of base64 text. */
export function fromBase64(text) {
  const raw = atob(text.trim());
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}
