// A chart as a picture of dots: the SVG file of the service, drawn on a canvas of twice its size.
import { announce } from "./util.js";

const SCALE = 2;

async function drawn(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`The chart could not be fetched (${answer.status}).`);
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(await answer.text())}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth * SCALE;
  canvas.height = image.naturalHeight * SCALE;
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/png");
}

for (const button of document.querySelectorAll("[data-png]")) {
  button.addEventListener("click", async () => {
    try {
      const link = document.createElement("a");
      link.download = button.dataset.name;
      link.href = await drawn(button.dataset.png);
      link.click();
    } catch (error) { announce(error.message); button.textContent = "PNG failed"; }
  });
}
