// The page: the pad to draw on, pictures that are brought, and what the network answers.
"use strict";

const { facts } = engine;
const find = (id) => document.getElementById(id);
const pad = find("pad");
const ink = pad.getContext("2d", { willReadFrequently: true });
const PEN = pad.width / 15;
const digits = facts.preparation === "digit";
const names = facts.classes.length ? facts.classes
  : Array.from({ length: facts.network.classes }, (_, index) => String(index));
const SHOWN = 10;  // classes at once: all where there are no more, else the likeliest

let picture = null;  // what is to be answered: the pad, a file, or nothing
let version = 0;  // of the picture; an answer to an earlier one is out of date
let busy = false;
let pending = false;
let drawing = null;  // the id of the pointer that draws, and the points since the last stroke

// ---- Asking: one question at a time, and the newest next.

function ask() {
  pending = true;
  if (!busy) requestAnimationFrame(next);
}

async function next() {
  if (busy || !pending) return;
  pending = false;
  if (!picture) return;
  busy = true;
  const asked = version;
  try {
    const answer = await engine.answer(picture === pad ? sketch() : picture, find("inside").open);
    if (asked >= cleared) {
      show(answer);
      // Only now is it known to be a picture, and not too large.
      if (picture !== pad && !pad.classList.contains("photo")) preview(picture);
    }
  } catch (error) {
    if (asked >= cleared) fail(error.message);
  }
  busy = false;
  if (pending) next();
}

let cleared = 0;  // the first version after the pad was cleared

// The pad at a size at which a digit is found quickly.
function sketch() {
  const small = document.createElement("canvas");
  small.width = small.height = pad.width / 4;
  const context = small.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(pad, 0, 0, small.width, small.height);
  return small;
}

function bring(file) {
  clear();
  picture = file;
  ask();
}

function clear() {
  cleared = ++version;
  picture = null;
  pending = false;
  drawing = null;
  ink.fillStyle = "white";
  ink.fillRect(0, 0, pad.width, pad.height);
  pad.classList.remove("photo");
  find("hint").hidden = false;
  find("problem").textContent = "";
  find("file").value = "";
  show(null);
}

// ---- Drawing.

function place(event) {
  const box = pad.getBoundingClientRect();
  const scale = pad.width / box.width;
  return { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
}

function start(event) {
  if (!digits || drawing || event.button > 0) return;
  event.preventDefault();
  pad.setPointerCapture(event.pointerId);
  if (picture !== pad) clear();
  picture = pad;
  find("hint").hidden = true;
  drawing = { id: event.pointerId, last: place(event), middle: place(event) };
  line([event]);
}

function move(event) {
  if (!drawing || event.pointerId !== drawing.id) return;
  const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
  line(events.length ? events : [event]);
}

function stop(event) {
  if (!drawing || event.pointerId !== drawing.id) return;
  ink.lineTo(drawing.last.x, drawing.last.y);
  ink.stroke();
  drawing = null;
  version++;
  ask();
}

// A smooth line: curves from the middle between two points to that between the next two.
function line(events) {
  ink.lineWidth = PEN;
  ink.lineCap = ink.lineJoin = "round";
  ink.strokeStyle = "black";
  ink.beginPath();
  ink.moveTo(drawing.middle.x, drawing.middle.y);
  for (const event of events) {
    const point = place(event);
    const { last } = drawing;
    drawing.middle = { x: (last.x + point.x) / 2, y: (last.y + point.y) / 2 };
    ink.quadraticCurveTo(last.x, last.y, drawing.middle.x, drawing.middle.y);
    drawing.last = point;
  }
  ink.stroke();
  version++;
  ask();
}

// ---- Pictures.

// A file on the pad, as large as fits; one that only the server can read is not shown.
async function preview(file) {
  const asked = version;
  try {
    const bitmap = await createImageBitmap(file);
    if (asked !== version) return;
    const scale = Math.min(pad.width / bitmap.width, pad.height / bitmap.height);
    const width = bitmap.width * scale;
    const height = bitmap.height * scale;
    ink.clearRect(0, 0, pad.width, pad.height);
    ink.drawImage(bitmap, (pad.width - width) / 2, (pad.height - height) / 2, width, height);
    pad.classList.add("photo");
    find("hint").hidden = true;
  } catch (error) {
    find("hint").textContent = file.name;
  }
}

function dropped(data) {
  const file = data && data.files[0];
  if (file) bring(file);
  return Boolean(file);
}

// ---- Showing.

function show(answer) {
  const probabilities = answer && answer.probabilities;
  const best = probabilities ? probabilities.indexOf(Math.max(...probabilities)) : -1;
  const certain = probabilities ? percent(probabilities[best]) : "";
  find("problem").textContent = "";
  if (probabilities) say(names[best], certain);
  else say("", answer ? "No digit found." : digits ? "Draw a digit." : "Choose a picture.");
  document.body.classList.toggle("answered", Boolean(probabilities));
  bars(probabilities, best);
  const seen = answer && answer.seen;
  if (seen) {
    const { size } = seen;
    const colours = seen.channels === 1 ? "grey levels" : "pixels in colour";
    paint(find("seen").firstElementChild, { ...seen, width: size, height: size });
    find("extent").textContent = `${size}\u00a0×\u00a0${size} ${colours}`;
  }
  find("seen").classList.toggle("empty", !seen);
  if (answer && answer.maps) showMaps(answer.maps);
}

function say(name, words) {
  const answer = find("answer");
  answer.textContent = "";
  if (name) answer.append(Object.assign(document.createElement("strong"), { textContent: name }), " ");
  answer.append(words);
  // Told once a stroke is done and answered, else every moment would be read aloud.
  if (!drawing && !pending) find("spoken").textContent = name ? `${name}, ${words}` : words;
}

function fail(message) {
  show(null);
  find("problem").textContent = message;
  find("answer").textContent = find("spoken").textContent = "";
}

function percent(share) {
  return `${(100 * share).toFixed(1)}%`;
}

function bars(probabilities, best) {
  const list = find("probabilities");
  const count = Math.min(names.length, SHOWN);
  while (list.children.length < count) {
    const row = document.createElement("li");
    for (const part of ["name", "bar", "share"]) {
      row.append(Object.assign(document.createElement("span"), { className: part }));
    }
    list.append(row);
  }
  let order = names.map((_, index) => index);
  if (names.length > SHOWN && probabilities) {
    order.sort((a, b) => probabilities[b] - probabilities[a]);
  }
  order = order.slice(0, count);
  order.forEach((index, at) => {
    const row = list.children[at];
    const [name, bar, share] = row.children;
    const value = probabilities ? probabilities[index] : 0;
    name.textContent = names[index];
    bar.style.setProperty("--share", value);
    share.textContent = probabilities ? percent(value) : "";
    row.classList.toggle("best", index === best);
  });
}

// Bytes on a canvas of their own size. pixels are (height, width, channels).
function paint(canvas, { width, height, channels, pixels }) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let colour = 0; colour < 3; colour++) {
      image.data[4 * i + colour] = pixels[i * channels + (channels === 1 ? 0 : colour)];
    }
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// ---- Events.

pad.addEventListener("pointerdown", start);
pad.addEventListener("pointermove", move);
for (const kind of ["pointerup", "pointercancel"]) pad.addEventListener(kind, stop);
find("clear").addEventListener("click", clear);
find("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) bring(file);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" || event.key === "Delete") clear();
});
document.addEventListener("paste", (event) => dropped(event.clipboardData));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  find("drop").classList.add("over");
});
document.addEventListener("dragleave", () => find("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  find("drop").classList.remove("over");
  if (!dropped(event.dataTransfer)) {
    clear();
    fail("That is no file. Save the picture first, then drop the file.");
  }
});
find("inside").addEventListener("toggle", () => {
  drawBlocks();
  ask();
});
clear();
