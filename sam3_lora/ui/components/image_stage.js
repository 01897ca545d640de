// One image with its objects: the wheel zooms, a drag pans, hovering an object tells its numbers; boxes can be drawn on
// it. The components that show one (viewer.js, labeller.js) are given this file before their own, see javascript.py.

const MAX_ZOOM = 24; // screen pixels that one image pixel is blown up to at most
const MAX_LABELS = 80;
const MIN_HEIGHT = 240; // screen pixels: room for labels and buttons
// Viewers with the same text under data.group show the same part of their images.
const groupsOfViewers = new Map();
const SVG = "http://www.w3.org/2000/svg";

// Draws into a node. Of whoever uses it: pick(index of an object, or -1) after a click, drawn([x, y, w, h] in pixels of
// the image) after a drag while a box is being drawn.
function createViewer(node, { pick, drawn } = {}) {
  const stage = child(node, "div", "stage");
  const image = child(stage, "img");
  image.draggable = false;
  const svg = stage.appendChild(document.createElementNS(SVG, "svg"));
  svg.setAttribute("preserveAspectRatio", "none");
  const labels = child(node, "div", "labels");
  const tip = child(node, "div", "tip");
  tip.hidden = true;
  const tools = child(node, "div", "tools");

  let data = null;
  let fit = 1; // screen pixels per image pixel when the whole image is seen
  let view = { scale: 1, x: 0, y: 0 }; // screen pixels per image pixel; screen position of the image's corner
  let groups = []; // of the SVG, one per object
  let drag = null;
  let lit = -1;
  let group = null; // the text under data.group
  let following = false; // another viewer of the group was moved
  let focused = null; // the last request to go to an object that was followed

  const size = () => [node.clientWidth, node.clientHeight];

  // As high as the image needs at this width, but no higher than most of the window.
  const fitHeight = () => {
    const highest = Math.max(data.viewHeight, (data.viewShare ?? 0.48) * window.innerHeight);
    const needed = (node.clientWidth * data.height) / data.width;
    node.style.height = `${Math.round(Math.min(Math.max(needed, MIN_HEIGHT), highest))}px`;
  };

  const showAll = () => {
    const [width, height] = size();
    fit = Math.min(width / data.width, height / data.height);
    view = { scale: fit, x: (width - data.width * fit) / 2, y: (height - data.height * fit) / 2 };
    place();
  };

  const zoom = (factor, x, y) => {
    const scale = Math.min(Math.max(view.scale * factor, fit), Math.max(MAX_ZOOM, fit));
    const ratio = scale / view.scale;
    view = { scale, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio };
    place();
  };

  const goTo = ([x, y, w, h]) => {
    const [width, height] = size();
    const scale = Math.min(width / w / 3, height / h / 3);
    view.scale = Math.min(Math.max(scale, fit), Math.max(MAX_ZOOM, fit));
    view.x = width / 2 - (x + w / 2) * view.scale;
    view.y = height / 2 - (y + h / 2) * view.scale;
    place();
  };

  const place = () => {
    const [width, height] = size();
    view.x = within(view.x, width, data.width * view.scale);
    view.y = within(view.y, height, data.height * view.scale);
    stage.style.left = `${view.x}px`;
    stage.style.top = `${view.y}px`;
    stage.style.width = `${data.width * view.scale}px`;
    stage.style.height = `${data.height * view.scale}px`;
    stage.classList.toggle("is-close", view.scale > 4);
    reset.hidden = view.scale <= fit * 1.001;
    node.dataset.zoom = (view.scale / fit).toFixed(2);
    drawLabels();
    if (!following) for (const other of companions()) other.follow(shown());
  };

  // The part of the image that is seen: how much larger than whole, and the place in the middle, in image pixels.
  const shown = () => {
    const [width, height] = size();
    return { zoom: view.scale / fit, x: (width / 2 - view.x) / view.scale, y: (height / 2 - view.y) / view.scale };
  };
  const companions = () => [...(groupsOfViewers.get(group) ?? [])].filter((other) => other !== viewer);
  const leave = () => groupsOfViewers.get(group)?.delete(viewer);

  const drawLabels = () => {
    labels.replaceChildren();
    if (!data.show.labels) return;
    const taken = [];
    const [width, height] = size();
    const order = data.objects.map((_, index) => index).sort((a, b) => area(data.objects[a]) - area(data.objects[b]));
    for (const index of order) {
      if (taken.length >= MAX_LABELS) break;
      const object = data.objects[index];
      if (object.unlabelled) continue;
      const [x, y, w, h] = object.box;
      const left = view.x + x * view.scale;
      const top = view.y + y * view.scale;
      const right = left + w * view.scale;
      const bottom = top + h * view.scale;
      if (right < 0 || bottom < 0 || left > width || top > height) continue;
      const length = Math.min(object.name.length, 28) * 6.6 + 12;
      const spots = [
        [left, top - 19],
        [left, top + 1],
        [right - length, top - 19],
        [left, bottom + 1],
        [left, bottom - 19],
      ]
        .map(([a, b]) => [Math.min(Math.max(a, 0), width - length), Math.min(Math.max(b, 0), height - 18)])
        .map(([a, b]) => [a, b, a + length, b + 18]);
      const spot = spots.find((one) => !taken.some((other) => overlap(one, other)));
      if (!spot) continue; // zooming in makes room for it
      taken.push(spot);
      const label = child(labels, "div", "label");
      label.textContent = object.name.length > 28 ? `${object.name.slice(0, 27)}…` : object.name;
      label.style.cssText = `left:${spot[0]}px;top:${spot[1]}px;background:${object.color};color:${object.ink}`;
    }
  };

  const drawObjects = () => {
    svg.setAttribute("viewBox", `0 0 ${data.width} ${data.height}`);
    svg.replaceChildren();
    groups = data.objects.map(() => document.createElementNS(SVG, "g"));
    const order = data.objects.map((_, index) => index).sort((a, b) => area(data.objects[b]) - area(data.objects[a]));
    for (const index of order) {
      const object = data.objects[index];
      const group = svg.appendChild(groups[index]);
      group.style.setProperty("--own", object.color);
      group.style.setProperty("--opacity", data.show.opacity);
      if (object.crowd) group.classList.add("crowd");
      if (object.emphasis) group.classList.add(...[object.emphasis].flat());
      if (data.show.masks && object.outline) {
        group.appendChild(document.createElementNS(SVG, "path")).setAttribute("d", object.outline);
      }
      if (data.show.boxes) {
        const rect = group.appendChild(document.createElementNS(SVG, "rect"));
        ["x", "y", "width", "height"].forEach((name, axis) => rect.setAttribute(name, object.box[axis]));
      }
    }
  };

  // The smallest object under the pointer: by its mask where that is drawn, else by its box.
  const objectAt = (x, y) => {
    const point = new DOMPoint((x - view.x) / view.scale, (y - view.y) / view.scale);
    const slack = 3 / view.scale;
    let best = -1;
    let bestRank = Infinity;
    data.objects.forEach((object, index) => {
      const [left, top, w, h] = object.box;
      const inBox =
        point.x >= left - slack && point.y >= top - slack && point.x <= left + w + slack && point.y <= top + h + slack;
      if (!inBox) return;
      const path = groups[index].querySelector("path");
      const rank = area(object) * (path && !path.isPointInFill(point) ? 1e6 : 1);
      if (rank < bestRank) [best, bestRank] = [index, rank];
    });
    return best;
  };

  // What the user draws: a rectangle from the first corner to the pointer, within the image.
  const rubber = child(stage, "div", "rubber");
  rubber.hidden = true;
  const cornersTo = ([x, y]) => {
    const inside = (value, most) => Math.min(Math.max(value, 0), most);
    const xs = [drag.at[0], x].map((each) => inside((each - view.x) / view.scale, data.width));
    const ys = [drag.at[1], y].map((each) => inside((each - view.y) / view.scale, data.height));
    const [left, top] = [Math.min(...xs), Math.min(...ys)];
    return [left, top, Math.max(...xs) - left, Math.max(...ys) - top];
  };
  const showRubber = ([x, y, w, h]) => {
    const share = (value, of) => `${(100 * value) / of}%`;
    rubber.style.cssText = `left:${share(x, data.width)};top:${share(y, data.height)};width:${share(w, data.width)};height:${share(h, data.height)};border-color:${data.drawing}`;
    rubber.hidden = false;
  };

  const light = (index) => {
    if (lit === index) return;
    groups[lit]?.classList.remove("is-lit");
    groups[index]?.classList.add("is-lit");
    svg.classList.toggle("has-one-lit", index >= 0);
    lit = index;
    tip.hidden = index < 0;
    if (index < 0) return;
    const object = data.objects[index];
    tip.style.setProperty("--own", object.color);
    const head = document.createElement("div");
    child(head, "i");
    child(head, "b").textContent = object.name;
    tip.replaceChildren(head);
    for (const line of object.lines) child(tip, "span").textContent = line;
  };

  const moveTip = (x, y) => {
    const [width, height] = size();
    tip.style.left = `${x + 16 + tip.offsetWidth > width ? Math.max(x - 16 - tip.offsetWidth, 0) : x + 16}px`;
    tip.style.top = `${Math.min(Math.max(y - 12, 0), Math.max(height - tip.offsetHeight, 0))}px`;
  };

  const at = (event) => {
    const box = node.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  const button = (text, title, act) => {
    const made = child(tools, "button");
    made.type = "button";
    made.textContent = text;
    made.title = title;
    made.setAttribute("aria-label", title);
    made.addEventListener("click", act);
    return made;
  };
  const middle = () => size().map((side) => side / 2);
  const reset = button("Whole image", "Show the whole image (0)", showAll);
  button("−", "Zoom out (-)", () => zoom(1 / 1.5, ...middle()));
  button("+", "Zoom in (+)", () => zoom(1.5, ...middle()));

  node.addEventListener(
    "wheel",
    (event) => {
      if (event.deltaY > 0 && view.scale <= fit * 1.001) return; // nothing to zoom out of: the page may scroll
      event.preventDefault();
      zoom(Math.exp(-Math.max(-100, Math.min(100, event.deltaY)) / 250), ...at(event));
      light(-1);
    },
    { passive: false },
  );
  node.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.closest(".tools")) return;
    drag = { at: at(event), x: view.x, y: view.y, moved: false };
    node.setPointerCapture(event.pointerId);
    node.classList.add("is-dragged");
    if (data.drawing) light(-1);
  });
  node.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    if (drag) drag.moved ||= Math.hypot(x - drag.at[0], y - drag.at[1]) > 3;
    if (drag && data.drawing) {
      if (drag.moved) showRubber(cornersTo([x, y]));
    } else if (drag) {
      view.x = drag.x + x - drag.at[0];
      view.y = drag.y + y - drag.at[1];
      place();
      light(-1);
    } else {
      light(data.drawing || event.target.closest(".tools") ? -1 : objectAt(x, y));
      if (lit >= 0) moveTip(x, y);
    }
  });
  const release = () => {
    drag = null;
    rubber.hidden = true;
    node.classList.remove("is-dragged");
  };
  node.addEventListener("pointerup", (event) => {
    const ended = drag;
    const box = drag && data.drawing && drag.moved ? cornersTo(at(event)) : null;
    release();
    if (box && box[2] >= 1 && box[3] >= 1) drawn?.(box);
    else if (ended && !ended.moved) pick?.(objectAt(...at(event)));
  });
  node.addEventListener("pointercancel", release);
  node.addEventListener("pointerleave", () => light(-1));
  node.addEventListener("dblclick", (event) => {
    if (event.target.closest(".tools")) return;
    if (view.scale > fit * 1.001) showAll();
    else zoom(4, ...at(event));
  });
  node.addEventListener("keydown", (event) => {
    if (event.key === "+" || event.key === "=") zoom(1.5, ...middle());
    else if (event.key === "-") zoom(1 / 1.5, ...middle());
    else if (event.key === "0") showAll();
  });

  let width = 0;
  const resized = new ResizeObserver(() => {
    if (data && node.clientWidth && node.clientWidth !== width) {
      width = node.clientWidth;
      fitHeight();
      showAll();
    }
  });
  resized.observe(node);

  const viewer = {
    follow(part) {
      const [width, height] = size();
      if (!data || !width) return;
      following = true;
      const scale = fit * part.zoom;
      view = { scale, x: width / 2 - part.x * scale, y: height / 2 - part.y * scale };
      place();
      following = false;
    },
    update(next) {
      if (next.group !== group) {
        leave();
        group = next.group;
        if (group) groupsOfViewers.set(group, (groupsOfViewers.get(group) ?? new Set()).add(viewer));
      }
      const same = data?.imageKey === next.imageKey;
      light(-1);
      data = next;
      fitHeight();
      node.setAttribute("aria-label", data.label);
      node.classList.toggle("is-drawing", Boolean(data.drawing));
      if (!same) {
        image.src = data.image;
        image.alt = data.alt ?? data.label;
      }
      drawObjects();
      if (same) place();
      else showAll();
      if (data.focus && data.focus.token !== focused) {
        focused = data.focus.token;
        goTo(data.focus.box);
      }
    },
    destroy() {
      leave();
      resized.disconnect();
      node.replaceChildren();
    },
  };
  return viewer;
}

function child(parent, tag, name) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  return parent.appendChild(made);
}

function area(object) {
  return object.box[2] * object.box[3];
}

function overlap(a, b) {
  return a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
}

// Where the image's corner may be: in the middle if it fits, else without a gap at either end.
function within(position, space, length) {
  if (length <= space) return (space - length) / 2;
  return Math.min(Math.max(position, space - length), 0);
}
