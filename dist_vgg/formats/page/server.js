// The engine of the served page: this program computes what the network answers.
"use strict";

const engine = (() => {
  const facts = JSON.parse(document.getElementById("facts").textContent);

  // What the network answers to a canvas or an image file. Raises Error with a line for the user.
  async function answer(picture, maps) {
    const body = picture instanceof HTMLCanvasElement
      ? await new Promise((resolve) => picture.toBlob(resolve, "image/png"))
      : picture;
    let response;
    try {
      response = await fetch(`predict?seen=1${maps ? "&maps=1" : ""}`, { method: "POST", body });
    } catch (error) {
      throw new Error("The server doesn't answer. Has it been stopped?");
    }
    const found = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(found.error || `The server answers ${response.status}.`);
    for (const image of [found.seen, ...(found.maps || [])]) {
      if (image) image.pixels = bytes(image.pixels);
    }
    return found;
  }

  function bytes(base64) {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  }

  return { facts, answer };
})();
