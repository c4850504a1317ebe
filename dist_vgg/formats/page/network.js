// The forward pass of VGG, from pixels to probabilities, one image at a time.
//
// Arrays are flat Float32Arrays. Activations are (height, width, channels), filters are
// (3, 3, inputs, outputs) and matrices (inputs, outputs): the outputs lie side by side, so every
// inner loop runs along memory. Most inputs are zero after a rectifier, and zeros are skipped.
"use strict";

// Bytes of base64, in a buffer of their own.
function fromBase64(text) {
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}

// The network with its weights. Layers are {kind, name, inputs, outputs}, of kind "conv", "pool" or
// "linear". Weights come as one byte each, a level from -127 to 127, and a scale for each output.
function readNetwork(facts, weights) {
  const levels = new Int8Array(fromBase64(weights.levels).buffer);
  const scales = new Float32Array(fromBase64(weights.scales).buffer);
  const biases = new Float32Array(fromBase64(weights.biases).buffer);
  let atLevel = 0;
  let atOutput = 0;
  const layers = facts.layers.map((layer) => {
    if (layer.kind === "pool") return layer;
    const outputs = layer.outputs;
    const inputs = layer.kind === "conv" ? 9 * layer.inputs : layer.inputs;
    const w = new Float32Array(inputs * outputs);
    for (let i = 0; i < w.length; i++) w[i] = levels[atLevel + i] * scales[atOutput + (i % outputs)];
    const b = biases.subarray(atOutput, atOutput + outputs);
    atLevel += w.length;
    atOutput += outputs;
    return { ...layer, w, b };
  });
  return { ...facts, layers };
}

// The logits of an image, and the feature maps that each block of convolutions ends with.
// pixels are (size, size, channels), 0 to 255.
function forward(network, pixels) {
  const { size, channels } = network.network;
  let x = normalise(pixels, network.mean, network.std);
  let shape = [size, size, channels];
  let last = "";
  const blocks = [];
  network.layers.forEach((layer, index) => {
    if (layer.kind === "conv") {
      x = convolve(x, shape, layer.w, layer.b);
      shape = [shape[0], shape[1], layer.outputs];
      last = layer.name;
    } else if (layer.kind === "pool") {
      x = pool(x, shape);
      shape = [shape[0] / 2, shape[1] / 2, shape[2]];
      blocks.push({ layer: last, height: shape[0], width: shape[1], channels: shape[2], values: x });
    } else {
      x = multiply(x, layer.w, layer.b);
      if (index < network.layers.length - 1) rectify(x, 0, x.length);
    }
  });
  return { logits: x, blocks };
}

// Pixels with mean 0 and standard deviation 1 over the training set, for each channel or for all.
function normalise(pixels, mean, std) {
  const x = new Float32Array(pixels.length);
  for (let i = 0; i < x.length; i++) {
    const of = i % mean.length;
    x[i] = Math.fround(pixels[i] - Math.fround(mean[of])) * Math.fround(1 / std[of]);
  }
  return x;
}

// A 3x3 convolution that keeps the size of the image, and the rectifier behind it.
// x is (H,W,C), w is (3,3,C,F), b is (F,), y is (H,W,F).
function convolve(x, [H, W, C], w, b) {
  const F = b.length;
  const y = new Float32Array(H * W * F);
  for (let row = 0; row < H; row++) {
    for (let column = 0; column < W; column++) {
      const out = (row * W + column) * F;
      y.set(b, out);
      for (let tap = 0; tap < 9; tap++) {
        const r = row + ((tap / 3) | 0) - 1;
        const c = column + (tap % 3) - 1;
        // Beyond the edge of the image everything is zero.
        if (r >= 0 && r < H && c >= 0 && c < W) {
          accumulate(y, out, F, x, (r * W + c) * C, C, w, tap * C * F);
        }
      }
      rectify(y, out, out + F);
    }
  }
  return y;
}

// The largest of each 2x2 square. x is (H,W,C), y is (H/2,W/2,C).
function pool(x, [H, W, C]) {
  const y = new Float32Array((H / 2) * (W / 2) * C);
  let out = 0;
  for (let row = 0; row < H; row += 2) {
    for (let column = 0; column < W; column += 2) {
      const above = (row * W + column) * C;
      const below = above + W * C;
      for (let i = 0; i < C; i++) {
        y[out++] = Math.max(x[above + i], x[above + C + i], x[below + i], x[below + C + i]);
      }
    }
  }
  return y;
}

// A fully connected layer. x is (C,), w is (C,F), b is (F,), y is (F,).
function multiply(x, w, b) {
  const y = new Float32Array(b);
  accumulate(y, 0, b.length, x, 0, x.length, w, 0);
  return y;
}

// y[out..out+F] += x[at..at+C] times the (C,F) matrix at w[from]: where all the time goes.
function accumulate(y, out, F, x, at, C, w, from) {
  for (let i = 0; i < C; i++) {
    const value = x[at + i];
    if (value === 0) continue;
    const line = from + i * F;
    for (let j = 0; j < F; j++) y[out + j] += value * w[line + j];
  }
}

// The rectifier, in place: whatever is negative becomes zero.
function rectify(y, start, end) {
  for (let i = start; i < end; i++) if (y[i] < 0) y[i] = 0;
}

// Probabilities of logits.
function softmax(logits) {
  const most = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - most));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

// Feature maps as a picture has them: bytes, 255 for the largest value of the block.
function visible({ values, ...block }) {
  const most = values.reduce((a, b) => Math.max(a, b), 0) || 1;
  return { ...block, pixels: Uint8Array.from(values, (value) => Math.round((255 * value) / most)) };
}
