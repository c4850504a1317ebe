// From a picture to the pixels that the network sees: what `predict` does in Python, step by step.
//
// A picture is {width, height, data} with four bytes for each pixel, as a canvas has it; an image
// in grey levels is {width, height, data} with one, and in colours with three, by `channels`.
// The arithmetic is Pillow's, in integers where Pillow has integers, so both see the same pixels.
"use strict";

// The input of the network, (size, size, channels) bytes; null where a digit is to be found in the
// picture and there is none.
function prepared(picture, facts) {
  const { size, channels } = facts.network;
  if (facts.preparation !== "digit") {
    const image = onPaper(picture, 255);
    return networkPixels(channels === 1 ? toGrey(image) : image, size, facts.preparation);
  }
  const digit = likeMnist(lightOnDark(toGrey(onPaper(picture, paper(picture)))));
  return digit && networkPixels(digit, size, "stretch");
}

// The grey level of the paper: black where all ink is light, else white.
function paper({ width, height, data }) {
  let drawn = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] <= 127) continue;
    if (grey(data, i) < 128) return 255;
    drawn++;
  }
  return drawn > 0 && 2 * drawn < width * height ? 0 : 255;
}

// A picture in three colours, with paper behind what is transparent.
function onPaper({ width, height, data }, level) {
  const rgb = new Uint8Array(3 * width * height);
  for (let i = 0, j = 0; i < data.length; i += 4) {
    const alpha = data[i + 3];
    for (let colour = 0; colour < 3; colour++) {
      const sum = (data[i + colour] * alpha + level * (255 - alpha) + 128) * 128;
      rgb[j++] = ((sum >> 8) + sum) >> 15;
    }
  }
  return { width, height, channels: 3, data: rgb };
}

function toGrey({ width, height, data }) {
  const levels = new Uint8Array(width * height);
  for (let i = 0; i < levels.length; i++) levels[i] = grey(data, 3 * i);
  return { width, height, channels: 1, data: levels };
}

// The luma of ITU-R 601 in 16 bits.
function grey(data, i) {
  return (data[i] * 19595 + data[i + 1] * 38470 + data[i + 2] * 7471 + 0x8000) >> 16;
}

// An image in grey levels, inverted where its border is light.
function lightOnDark(image) {
  const { width, height, data } = image;
  const border = [];
  for (let x = 0; x < width; x++) border.push(data[x], data[(height - 1) * width + x]);
  for (let y = 0; y < height; y++) border.push(data[y * width], data[y * width + width - 1]);
  border.sort((a, b) => a - b);
  const middle = border.length / 2;  // their number is even
  if (border[middle - 1] + border[middle] <= 2 * 127) return image;
  return { ...image, data: data.map((level) => 255 - level) };
}

// An image scaled to the network's square. "crop" scales the shorter side and cuts out the middle,
// "pad" scales the longer side and puts black around, "stretch" scales each side by itself.
function networkPixels(image, size, fit) {
  const { width, height, channels } = image;
  if (fit === "crop") {
    const side = Math.min(width, height);
    const box = [(width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2];
    return resize(image, size, size, box).data;
  }
  if (fit === "stretch" || width === height) return resize(image, size, size).data;
  const scale = size / Math.max(width, height);
  const w = Math.max(1, roundEven(width * scale));
  const h = Math.max(1, roundEven(height * scale));
  const inner = resize(image, w, h).data;
  const frame = new Uint8Array(size * size * channels);
  const left = Math.floor((size - w) / 2);
  const top = Math.floor((size - h) / 2);
  for (let y = 0; y < h; y++) {
    const line = inner.subarray(y * w * channels, (y + 1) * w * channels);
    frame.set(line, ((top + y) * size + left) * channels);
  }
  return frame;
}

// Pillow's resize by cubic convolution: along the rows and along the columns, in bytes. Pillow 13
// begins with the columns where the height shrinks by more than twice the pixels; that can show.
function resize(image, width, height, box = [0, 0, image.width, image.height]) {
  const [left, top, right, bottom] = box;
  const along = (from) =>
    width === from.width && left === 0 && right === width ? from : rows(from, left, right, width);
  const down = (from) =>
    height === from.height && top === 0 && bottom === height ? from
      : columns(from, top, bottom, height);
  const shrunk = image.height - height;
  const columnsFirst = shrunk > 0 && shrunk > 2 * (image.width - width);
  return columnsFirst ? along(down(image)) : down(along(image));
}

function rows({ width, height, channels, data }, start, end, extent) {
  const lines = { count: height, step: width * channels, between: channels };
  const out = { step: extent * channels, between: channels };
  const result = resample(data, width, start, end, extent, lines, out, channels);
  return { width: extent, height, channels, data: result };
}

function columns({ width, height, channels, data }, start, end, extent) {
  const lines = { count: width, step: channels, between: width * channels };
  const result = resample(data, height, start, end, extent, lines, lines, channels);
  return { width, height: extent, channels, data: result };
}

// Resample lines of so many pixels from start..end to `extent` pixels. `step` leads from a line to
// the next, `between` from a pixel of a line to the next.
function resample(data, pixels, start, end, extent, lines, out, channels) {
  const BITS = 22;  // of the coefficients behind the point
  const scale = (end - start) / extent;
  const stretch = Math.max(scale, 1);  // where an image shrinks, the filter covers more pixels
  const result = new Uint8Array(lines.count * extent * channels);
  for (let i = 0; i < extent; i++) {
    const centre = start + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - 2 * stretch + 0.5));
    const last = Math.min(pixels, Math.trunc(centre + 2 * stretch + 0.5));
    const weights = [];
    for (let k = first; k < last; k++) weights.push(cubic((k - centre + 0.5) / stretch));
    const sum = weights.reduce((a, b) => a + b, 0) || 1;
    const taps = weights.map((weight) => {
      const scaled = (weight / sum) * (1 << BITS);
      return Math.trunc(scaled + (scaled < 0 ? -0.5 : 0.5));
    });
    for (let line = 0; line < lines.count; line++) {
      for (let channel = 0; channel < channels; channel++) {
        let total = 1 << (BITS - 1);
        let from = line * lines.step + first * lines.between + channel;
        for (let k = 0; k < taps.length; k++, from += lines.between) {
          total += data[from] * taps[k];
        }
        const level = total >> BITS;
        const at = line * out.step + i * out.between + channel;
        result[at] = level < 0 ? 0 : level > 255 ? 255 : level;
      }
    }
  }
  return result;
}

// Keys, "Cubic convolution interpolation for digital image processing", 1981, with a = -1/2.
function cubic(x) {
  x = Math.abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

// Round to the nearest integer, halves to the even one, as Python does.
function roundEven(x) {
  const below = Math.floor(x);
  if (x - below !== 0.5) return Math.round(x);
  return below % 2 === 0 ? below : below + 1;
}
