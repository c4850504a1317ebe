// Find the digit in an image and bring it to MNIST's size and place: dist_vgg/data/digit.py in
// JavaScript, with the same names. That file says why each step is as it is.
"use strict";

const SIDE = 28;
const BOX = 20;
const WORK = 320;
const FAINT = 8;
const SMALLEST = 6;
const CLEAR = 6;
const PART = 0.1;

// The digit in an image, light on black as in MNIST; null where there is none.
function likeMnist(image) {
  const { width, height, data } = reduce(image, Math.ceil(Math.max(image.width, image.height) / WORK));
  const found = withoutGround(Float64Array.from(data), width, height);
  const { noise } = found;
  let { rest } = found;
  const faintest = Math.max(3 * noise, FAINT);
  let darker = 0;
  let lighter = 0;
  for (const value of rest) {
    darker += Math.max(-value - faintest, 0);
    lighter += Math.max(value - faintest, 0);
  }
  if (darker > lighter) rest = rest.map((value) => -value);
  const core = withoutSpecks(rest, rest.map((value) => value > faintest), width);
  const stroke = rest.filter((_, i) => core[i]);
  if (stroke.length === 0) return null;
  const strength = quantile(stroke, 0.8);
  const least = Math.max(faintest, strength / 4);
  const ink = withoutSpecks(rest, rest.map((value) => value > least), width);
  const box = boundingBox(ink, width, height);
  if (!box || strength < CLEAR * noise) return null;
  const extent = Math.max(box.right - box.left, box.bottom - box.top);
  if (extent < Math.max(SMALLEST, Math.min(width, height) / 12) || box.count < extent) return null;
  const near = boxSum(ink, width, height, Math.max(1, roundEven(extent / BOX)));
  const w = box.right - box.left;
  const level = new Uint8Array(w * (box.bottom - box.top)).map((_, i) => {
    const at = (box.top + Math.floor(i / w)) * width + box.left + (i % w);
    return near[at] > 0 ? roundEven(255 * Math.min(Math.max(rest[at] / strength, 0), 1)) : 0;
  });
  return framed({ width: w, height: box.bottom - box.top, channels: 1, data: level });
}

// Pillow's reduce: each square of so many pixels becomes their mean; at the edges, what there is.
function reduce(image, factor) {
  if (factor === 1) return image;
  const width = Math.ceil(image.width / factor);
  const height = Math.ceil(image.height / factor);
  const data = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const bottom = Math.min((y + 1) * factor, image.height);
    for (let x = 0; x < width; x++) {
      const right = Math.min((x + 1) * factor, image.width);
      const count = (bottom - y * factor) * (right - x * factor);
      let sum = count >> 1;
      for (let row = y * factor; row < bottom; row++) {
        for (let i = x * factor; i < right; i++) sum += image.data[row * image.width + i];
      }
      data[y * width + x] = (sum * Math.floor(Math.fround((1 << 24) / count))) / (1 << 24);
    }
  }
  return { width, height, channels: 1, data };
}

// How much each pixel differs from the ground around it, and the ground's own noise.
function withoutGround(levels, width, height) {
  const outer = 1 - Math.max(0.1, 1.5 / Math.min(height, width));
  const split = threshold(levels);
  let border = 0;  // pixels there, less twice those that are light
  levels.forEach((level, i) => {
    const x = Math.abs(centred(i % width, width));
    const y = Math.abs(centred(Math.floor(i / width), height));
    if (Math.max(x, y) > outer) border += level > split ? -1 : 1;
  });
  let near = Uint8Array.from(levels, (level) => level > split === border < 0);
  let rest = levels;
  for (let round = 0; round < 10; round++) {
    rest = withoutSurface(levels, near, width, height);
    const before = near;
    near = nearGround(rest, near);
    if (near.every((value, i) => value === before[i])) break;  // more rounds would change nothing
  }
  const every = new Uint8Array(levels.length).fill(1);
  const radius = Math.floor(Math.max(height, width) / 6);
  const whole = boxSum(every, width, height, radius);
  for (let round = 0; round < 2; round++) {
    const known = boxSum(near, width, height, radius);
    const sum = boxSum(rest.map((value, i) => value * near[i]), width, height, radius);
    rest = rest.map((value, i) =>
      known[i] > 0.1 * whole[i] ? value - sum[i] / Math.max(known[i], 1) : value);
    near = nearGround(rest, near);
  }
  if (rms(rest, near) > 3) {
    const sum = boxSum(rest, width, height, 1);
    const area = boxSum(every, width, height, 1);
    rest = sum.map((value, i) => value / area[i]);
    near = nearGround(rest, near);
  }
  return { rest, noise: rms(rest, near) };
}

// The middle of a pixel, where the image extends from -1 to 1.
function centred(i, extent) {
  return (2 * i + 1) / extent - 1;
}

// The levels less the surface of second order that fits the near pixels best.
function withoutSurface(levels, near, width, height) {
  const powers = [[0, 0], [1, 0], [0, 1], [2, 0], [1, 1], [0, 2]];  // of x and y, of each term
  const a = powers.map((_, i) => powers.map((_, j) => (i === j ? 1e-6 : 0)).concat(0));
  for (let row = 0; row < height; row++) {
    const ofX = [0, 0, 0, 0, 0];  // the sums of x to the powers 0 to 4 over the near pixels
    const ofLevels = [0, 0, 0];
    for (let column = 0; column < width; column++) {
      const i = row * width + column;
      if (!near[i]) continue;
      const x = centred(column, width);
      const xx = x * x;
      ofX[0] += 1;
      ofX[1] += x;
      ofX[2] += xx;
      ofX[3] += xx * x;
      ofX[4] += xx * xx;
      ofLevels[0] += levels[i];
      ofLevels[1] += levels[i] * x;
      ofLevels[2] += levels[i] * xx;
    }
    const y = centred(row, height);
    powers.forEach(([px, py], i) => {
      powers.forEach(([qx, qy], j) => { a[i][j] += ofX[px + qx] * y ** (py + qy); });
      a[i][6] += ofLevels[px] * y ** py;
    });
  }
  const c = solve(a);
  const rest = new Float64Array(levels.length);
  for (let row = 0, i = 0; row < height; row++) {
    const y = centred(row, height);
    const constant = c[0] + c[2] * y + c[5] * y * y;
    const slope = c[1] + c[4] * y;
    for (let column = 0; column < width; column++, i++) {
      const x = centred(column, width);
      rest[i] = levels[i] - (constant + slope * x + c[3] * x * x);
    }
  }
  return rest;
}

// The solution of linear equations, the right side in the last column, by Gauss with pivots.
function solve(a) {
  const n = a.length;
  for (let k = 0; k < n; k++) {
    let pivot = k;
    for (let i = k + 1; i < n; i++) if (Math.abs(a[i][k]) > Math.abs(a[pivot][k])) pivot = i;
    [a[k], a[pivot]] = [a[pivot], a[k]];
    for (let i = 0; i < n; i++) {
      if (i === k) continue;
      const factor = a[i][k] / a[k][k];
      for (let j = k; j <= n; j++) a[i][j] -= factor * a[k][j];
    }
  }
  return a.map((row, k) => row[n] / row[k]);
}

// The level that splits the pixels into the two most different groups (Otsu, 1979).
function threshold(levels) {
  const counts = new Float64Array(256);
  for (const level of levels) counts[level]++;
  const sum = levels.reduce((a, b) => a + b, 0);
  let below = 0;
  let total = 0;
  let best = -1;
  let found = 0;
  for (let level = 0; level < 256; level++) {
    below += counts[level];
    total += counts[level] * level;
    const between =
      (sum * below - total * levels.length) ** 2 / Math.max(below * (levels.length - below), 1);
    if (between > best) [best, found] = [between, level];
  }
  return found;
}

function nearGround(rest, near) {
  const most = Math.max(2 * rms(rest, near), FAINT);
  const result = new Uint8Array(rest.length);
  for (let i = 0; i < rest.length; i++) result[i] = Math.abs(rest[i]) <= most ? 1 : 0;
  return result;
}

// The root mean square of the values that are near.
function rms(rest, near) {
  let sum = 0;
  let count = 0;
  for (let i = 0; i < rest.length; i++) {
    if (near[i]) {
      sum += rest[i] * rest[i];
      count++;
    }
  }
  return count ? Math.sqrt(sum / count) : 0;
}

// The sum over the square around each pixel, cut off at the image's border.
function boxSum(values, width, height, radius) {
  const line = width + 1;
  const sums = new Float64Array(line * (height + 1));
  for (let y = 0; y < height; y++) {
    let sum = 0;
    for (let x = 0; x < width; x++) {
      sum += values[y * width + x];
      sums[(y + 1) * line + x + 1] = sums[y * line + x + 1] + sum;
    }
  }
  const result = new Float64Array(width * height);
  for (let y = 0; y < height; y++) {
    const top = Math.max(y - radius, 0) * line;
    const bottom = Math.min(y + radius + 1, height) * line;
    for (let x = 0; x < width; x++) {
      const left = Math.max(x - radius, 0);
      const right = Math.min(x + radius + 1, width);
      result[y * width + x] =
        sums[bottom + right] - sums[top + right] - (sums[bottom + left] - sums[top + left]);
    }
  }
  return result;
}

// The ink without specks: its connected parts with enough ink, compared with the largest.
function withoutSpecks(rest, ink, width) {
  const height = ink.length / width;
  const todo = Uint8Array.from(ink);
  const parts = [];
  for (let start = 0; start < todo.length; start++) {
    if (!todo[start]) continue;
    todo[start] = 0;
    const part = [start];
    let weight = 0;
    for (const pixel of part) {  // it grows as its neighbours are found
      weight += rest[pixel];
      const x = pixel % width;
      const y = (pixel - x) / width;
      for (let r = Math.max(y - 1, 0); r <= Math.min(y + 1, height - 1); r++) {
        for (let c = Math.max(x - 1, 0); c <= Math.min(x + 1, width - 1); c++) {
          const neighbour = r * width + c;
          if (todo[neighbour]) {
            todo[neighbour] = 0;
            part.push(neighbour);
          }
        }
      }
    }
    parts.push({ part, weight });
  }
  const largest = parts.reduce((most, { weight }) => Math.max(most, weight), 0);
  const kept = new Uint8Array(ink.length);
  for (const { part, weight } of parts) {
    if (weight >= PART * largest) for (const pixel of part) kept[pixel] = 1;
  }
  return kept;
}

// The box around the ink, and how many pixels of ink there are; null where there is none.
function boundingBox(ink, width, height) {
  const box = { left: width, top: height, right: 0, bottom: 0, count: 0 };
  ink.forEach((is, i) => {
    if (!is) return;
    const x = i % width;
    const y = Math.floor(i / width);
    box.left = Math.min(box.left, x);
    box.right = Math.max(box.right, x + 1);
    box.top = Math.min(box.top, y);
    box.bottom = Math.max(box.bottom, y + 1);
    box.count++;
  });
  return box.count ? box : null;
}

// The value below which this share of the values lies, between two of them in proportion.
function quantile(values, share) {
  const sorted = values.sort();
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - below);
}

// A digit that fills its box, scaled and centred as in MNIST.
function framed(digit) {
  const scale = BOX / Math.max(digit.width, digit.height);
  const width = Math.max(1, roundEven(digit.width * scale));
  const height = Math.max(1, roundEven(digit.height * scale));
  const levels = resize(digit, width, height).data;
  const sorted = Uint8Array.from(levels).sort();
  const most = sorted[sorted.length - 1];
  const white = Math.max(sorted[Math.max(sorted.length - BOX, 0)], most / 3);
  const pixels = Float64Array.from(levels, (level) => Math.min(level * (255 / white), 255));
  let mass = 0;
  let massX = 0;
  let massY = 0;
  pixels.forEach((value, i) => {
    mass += value;
    massX += value * (i % width);
    massY += value * Math.floor(i / width);
  });
  const place = (centre, extent) =>
    Math.min(Math.max(roundEven(SIDE / 2 - centre), 0), SIDE - extent);
  const left = place(massX / mass, width);
  const top = place(massY / mass, height);
  const frame = new Uint8Array(SIDE * SIDE);
  pixels.forEach((value, i) => {
    frame[(top + Math.floor(i / width)) * SIDE + left + (i % width)] = roundEven(value);
  });
  return { width: SIDE, height: SIDE, channels: 1, data: frame };
}
