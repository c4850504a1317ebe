// The worker: it prepares pictures and computes the network, so that drawing stays smooth.
"use strict";

let network = null;

onmessage = ({ data }) => {
  if (data.facts) {
    network = readNetwork(data.facts, data.weights);
    warmUp();
    return;
  }
  const { size, channels } = network.network;
  const pixels = prepared(data.picture, network);
  const answer = { id: data.id, probabilities: null, seen: null, maps: null };
  if (pixels) {
    const { logits, blocks } = forward(network, pixels);
    answer.probabilities = softmax(logits);
    answer.seen = { size, channels, pixels };
    if (data.maps) answer.maps = blocks.map(visible);
  }
  postMessage(answer);
};

// Compute something once, so that the browser has compiled all this before the first answer counts.
function warmUp() {
  const { size, channels } = network.network;
  const data = new Uint8ClampedArray(4 * 320 * 320).fill(255);
  prepared({ width: 320, height: 320, data }, network);
  forward(network, new Uint8Array(size * size * channels).fill(128));
}
