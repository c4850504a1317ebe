// The engine of the file: a picture becomes an answer in a worker, without any server.
"use strict";

const engine = (() => {
  const MOST_BYTES = 128 << 20;
  const MOST_PIXELS = 1 << 25;
  const text = (id) => document.getElementById(id).textContent;
  const facts = JSON.parse(text("facts"));
  const source = URL.createObjectURL(new Blob([text("worker")], { type: "text/javascript" }));
  const worker = new Worker(source);
  const waiting = new Map();
  let last = 0;

  worker.onmessage = ({ data }) => {
    waiting.get(data.id).resolve(data);
    waiting.delete(data.id);
  };
  worker.onerror = (event) => {
    event.preventDefault();
    for (const { reject } of waiting.values()) reject(new Error("This browser can't compute it."));
    waiting.clear();
  };
  worker.postMessage({ facts, weights: JSON.parse(text("weights")) });

  // The pixels of an image file, upright, as the browser decodes it.
  async function decode(file) {
    const name = file.name || "The picture";
    if (file.size > MOST_BYTES) throw new Error(`${name} is larger than 128 MiB; make it smaller.`);
    const { width, height } = await extent(file, name);
    if (width * height > MOST_PIXELS) {
      throw new Error(`${name} has ${width} × ${height} pixels; make it smaller.`);
    }
    const canvas = document.createElement("canvas");
    try {
      // Firefox knows no options before 98.
      const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" })
        .catch(() => createImageBitmap(file));
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(bitmap, 0, 0);
      return context.getImageData(0, 0, canvas.width, canvas.height);
    } catch (error) {
      throw unreadable(name);
    }
  }

  // Width and height of an image file; no browser decodes the pixels for that.
  function extent(file, name) {
    return new Promise((resolve, reject) => {
      const image = new Image();
      const done = (settle, value) => {
        URL.revokeObjectURL(image.src);
        settle(value);
      };
      image.onload = () => done(resolve, { width: image.naturalWidth, height: image.naturalHeight });
      image.onerror = () => done(reject, unreadable(name));
      image.src = URL.createObjectURL(file);
    });
  }

  function unreadable(name) {
    return new Error(`${name} is no picture that this browser can read; choose a PNG or JPEG file.`);
  }

  // What the network answers to a canvas or an image file. Raises Error with a line for the user.
  async function answer(picture, maps) {
    const { width, height, data } = picture instanceof HTMLCanvasElement
      ? picture.getContext("2d").getImageData(0, 0, picture.width, picture.height)
      : await decode(picture);
    return new Promise((resolve, reject) => {
      const id = ++last;
      waiting.set(id, { resolve, reject });
      worker.postMessage({ id, picture: { width, height, data }, maps }, [data.buffer]);
    });
  }

  return { facts, answer };
})();
