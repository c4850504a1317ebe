// The worker: it prepares pictures and computes the network, so that drawing stays smooth.
"use strict";

let network = null;

onmessage = ({ data }) => {
  if (data.facts) {
    network = readNetwork(data.facts, data.weights);
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
