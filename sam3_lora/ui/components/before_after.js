// A range input over two pictures: its value says how much of the first is seen, in percent from the left.
// Streamlit calls the default export at every update of the data; the value survives these.

export default function ({ data, parentElement }) {
  const node = parentElement.querySelector(".sam3-before-after");
  const slider = node.querySelector("input");
  const set = (element, name, value) => element[name] !== value && (element[name] = value); // no picture twice
  ["before", "after"].forEach((which, place) => {
    const image = node.querySelector(`.${which}`);
    set(image, "src", data[which]);
    set(image, "alt", data.alts[place]);
    // No higher than most of the window, whatever the column's width.
    image.onload = () => (node.style.maxWidth = `calc(62vh * ${image.naturalWidth / image.naturalHeight})`);
  });
  ["left", "right"].forEach((side, place) => set(node.querySelector(`.${side}`), "textContent", data.labels[place]));
  slider.setAttribute("aria-label", data.name);
  const place = () => {
    node.style.setProperty("--split", `${slider.value}%`);
    // A label goes when its part of the picture gets too small for it.
    const line = (slider.value / 100) * node.clientWidth;
    const [left, right] = ["left", "right"].map((side) => node.querySelector(`.${side}`));
    left.style.visibility = left.offsetLeft + left.offsetWidth < line ? "" : "hidden";
    right.style.visibility = right.offsetLeft > line ? "" : "hidden";
    slider.setAttribute("aria-valuetext", `${slider.value} % ${data.labels[0]}, ${100 - slider.value} % ${data.labels[1]}`);
  };
  if (node.dataset.image === undefined) new ResizeObserver(() => slider.oninput()).observe(node);
  if (node.dataset.image !== data.image) {
    node.dataset.image = data.image;
    slider.value = data.start;
  }
  slider.oninput = place;
  node.querySelector("button").onclick = () =>
    document.fullscreenElement === node ? document.exitFullscreen() : node.requestFullscreen();
  place();
}
