// The feature maps of each block: all side by side, and one of them large.
"use strict";

const GAP = 2;  // pixels between maps
const LARGE = 160;  // pixels, the side of the map that is shown large
const SAYS = [
  "The first filters know only light and dark: some fit all ink, others an edge in one direction.",
  "Filters over those maps fit what edges form together, such as corners, ends and bends.",
  "Bends and ends come together to larger pieces, and the place of each is less exact.",
  "A value now looks at most of the picture; it says that a large part is there, hardly where.",
  "The last maps are a few numbers for each part; the layers behind them weigh these into classes.",
];
const blocks = [];  // {grid, large, caption, map, chosen, columns, cell}

function showMaps(maps) {
  maps.forEach((map, index) => {
    if (!blocks[index]) blocks.push(newBlock(index, map));
    blocks[index].map = map;
  });
  drawBlocks();
}

function drawBlocks() {
  if (find("inside").open) blocks.forEach(drawBlock);
}

function newBlock(index, { layer, height, width, channels, pixels }) {
  const figure = find("block").content.cloneNode(true).firstElementChild;
  const part = (selector) => figure.querySelector(selector);
  part("h2").textContent = `Block ${index + 1}`;
  const { size } = facts.network;
  const sight = fieldOfView(index);
  part(".what").textContent =
    `${channels} maps of ${width} × ${height}, behind ${layer}. ` +
    `Each value looks at ${sight < size ? `${sight} × ${sight}` : "all"} pixels.`;
  part(".says").textContent = SAYS[Math.min(index, SAYS.length - 1)];
  const grid = part(".grid");
  grid.setAttribute("aria-label", `Map of block ${index + 1} shown large`);
  grid.setAttribute("aria-valuemax", channels);
  find("blocks").append(figure);
  const brightest = Math.max(pixels.indexOf(255), 0) % channels;
  const block = { grid, large: part(".large canvas"), caption: part(".large p"), chosen: brightest };
  grid.addEventListener("click", (event) => {
    const box = grid.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / block.cell);
    const row = Math.floor((event.clientY - box.top) / block.cell);
    choose(block, row * block.columns + Math.min(column, block.columns - 1));
  });
  grid.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -block.columns, ArrowDown: block.columns };
    if (!(event.key in step)) return;
    event.preventDefault();
    choose(block, block.chosen + step[event.key]);
  });
  return block;
}

function choose(block, index) {
  if (index < 0 || index >= block.map.channels) return;
  block.chosen = index;
  drawBlock(block);
}

function drawBlock(block) {
  const { grid, map } = block;
  const { width, channels } = map;
  const narrow = grid.parentElement.clientWidth < 700;  // then the large one is below
  const room = grid.parentElement.clientWidth - (narrow ? 0 : LARGE + 24);
  const [few, more, many] = narrow ? [64, 32, 22] : [96, 48, 22];
  const side = channels <= 16 ? few : channels <= 128 ? more : many;
  const scale = Math.max(1, Math.floor(side / width));
  block.cell = scale * width + GAP;
  block.columns = 1;
  while (2 * block.columns <= channels && 2 * block.columns * block.cell <= room) block.columns *= 2;
  grid.width = block.columns * block.cell;
  grid.height = Math.ceil(channels / block.columns) * block.cell;
  const context = grid.getContext("2d");
  context.imageSmoothingEnabled = false;
  const one = document.createElement("canvas");
  for (let index = 0; index < channels; index++) {
    paint(one, channel(map, index));
    const x = (index % block.columns) * block.cell + GAP / 2;
    const y = Math.floor(index / block.columns) * block.cell + GAP / 2;
    if (index === block.chosen) {
      context.fillStyle = getComputedStyle(grid).color;
      context.fillRect(x - GAP / 2, y - GAP / 2, block.cell, block.cell);
    }
    context.drawImage(one, x, y, scale * width, scale * width);
  }
  paint(block.large, channel(map, block.chosen));
  const words = `map ${block.chosen + 1} of ${channels}`;
  block.caption.textContent = words;
  grid.setAttribute("aria-valuenow", block.chosen + 1);
  grid.setAttribute("aria-valuetext", words);
}

// One map as an image of its own.
function channel({ width, height, channels, pixels }, index) {
  const levels = new Uint8Array(width * height).map((_, i) => pixels[i * channels + index]);
  return { width, height, channels: 1, pixels: levels };
}

// The side of the square of the input that a value behind this block depends on.
function fieldOfView(index) {
  let side = 1;
  let step = 1;
  let pools = 0;
  for (const { kind } of facts.layers) {
    if (kind === "linear" || pools > index) break;
    side += (kind === "conv" ? 2 : 1) * step;
    if (kind === "pool") {
      step *= 2;
      pools++;
    }
  }
  return side;
}

addEventListener("resize", drawBlocks);
