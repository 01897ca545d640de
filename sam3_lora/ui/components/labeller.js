// An image with the objects that a person decides about by key, their list, and one line of keys. Keys act at once, here;
// Streamlit is told everything decided about the image so far, with a number: of messages that it merges the last one
// says all. After "next" the keys wait until the next image is there.

const STATES = { open: "○", accepted: "✓", rejected: "✕" };
const TYPING = "input, textarea, select, [contenteditable], [role=slider], [role=radio], [role=combobox]"; // take all keys
const PRESSED = "button, a, summary"; // take Enter
const SOON = 500; // milliseconds after a decision until it is told, unless the next one comes before

export default function ({ data, parentElement, setStateValue }) {
  const node = parentElement.querySelector(".sam3-labeller");
  node.sam3Labeller ??= createLabeller(node);
  node.sam3Labeller.update(data, setStateValue);
  return () => {
    node.sam3Labeller?.destroy();
    delete node.sam3Labeller;
  };
}

function createLabeller(node) {
  const stageNode = child(node, "div", "sam3-viewer");
  stageNode.setAttribute("role", "group");
  stageNode.tabIndex = 0;
  const side = child(node, "div", "side");
  const progress = child(side, "div", "progress");
  const title = child(side, "div", "title");
  const waiting = child(side, "div", "waiting");
  waiting.setAttribute("aria-live", "polite");
  const phrases = child(side, "div", "phrases");
  const list = child(side, "div", "items");
  const hint = child(side, "div", "hint");
  hint.textContent = "↑ ↓ choose an object · 1–9 its phrase";
  const legend = child(node, "div", "legend");

  let data = null;
  let send = null;
  let number = 0;
  let local = null; // what is decided about the image: {states, phrases, boxes, incomplete, chosen, drawing, phrase}
  let sent = 0; // the number of the last message
  let sending = null;
  let leaving = false; // the next image was asked for

  const viewer = createViewer(stageNode, {
    pick: (index) => index >= 0 && choose(items()[index].id),
    drawn: (box) => draw(box),
  });

  const items = () => data.items;
  const state = (id) => local.states[id] ?? "open";
  const phraseOf = (item) => local.phrases[item.id] ?? item.phrase;
  const open = () => items().filter((item) => state(item.id) === "open");
  const chosen = () => items().find((item) => item.id === local.chosen);
  const known = (name) => data.phrases.find((one) => one.name === name) ?? data.phrases[0];

  const tell = (options = {}) => {
    number += 1;
    const { states, phrases: given, boxes, incomplete } = local;
    const message = { number, image: data.imageKey, states, phrases: given, boxes, incomplete, ...options };
    clearTimeout(sending);
    sending = null;
    const now = () => {
      sent = message.number;
      send?.("answer", message);
    };
    if (options.go || options.now) now();
    else sending = setTimeout(now, SOON);
  };

  const choose = (id) => {
    local.chosen = id;
    redraw();
  };
  const chooseNext = () => {
    const places = items().map((item) => item.id);
    const from = places.indexOf(local.chosen);
    const after = [...items().slice(from + 1), ...items().slice(0, from + 1)];
    const next = after.find((item) => state(item.id) === "open");
    if (next) local.chosen = next.id;
  };
  const step = (by) => {
    if (!items().length) return;
    const place = items().findIndex((item) => item.id === local.chosen);
    choose(items()[(Math.max(place, 0) + by + items().length) % items().length].id);
  };
  const decide = (value) => {
    const item = chosen();
    if (!item) return;
    local.states[item.id] = value;
    if (value === "accepted" && item.rival) local.states[item.rival] = "rejected";
    chooseNext();
    redraw();
    tell();
  };
  const go = (where) => {
    leaving = true;
    redraw();
    tell({ go: where });
  };
  const enter = () => (open().length ? decide("accepted") : go("next"));
  const acceptAll = () => {
    for (const item of open()) local.states[item.id] = "accepted";
    for (const item of items()) {
      const isTwice = item.rival && item.source === "model" && state(item.rival) === "accepted";
      if (isTwice && state(item.id) === "accepted") local.states[item.id] = "rejected";
    }
    go("next");
  };
  const noneHere = () => {
    for (const item of items()) if (!item.kept) local.states[item.id] = "rejected";
    go("next");
  };
  const setPhrase = (place) => {
    const phrase = data.phrases[place];
    if (!phrase) return;
    local.phrase = phrase.name;
    const item = local.drawing ? null : chosen();
    if (item) {
      local.phrases[item.id] = phrase.name;
      local.states[item.id] = "accepted";
      if (item.rival) local.states[item.rival] = "rejected";
      chooseNext();
      tell();
    }
    redraw();
  };
  const toggleDrawing = (kind) => {
    local.drawing = local.drawing === kind ? null : kind;
    local.phrase = local.phrase ?? (chosen() ? phraseOf(chosen()) : data.phrases[0].name);
    redraw();
  };
  const draw = ([x, y, w, h]) => {
    const id = `b${Date.now().toString(36)}${Math.floor(Math.random() * 1e6).toString(36)}`;
    const positive = local.drawing === "object";
    const box = [x, y, x + w, y + h];
    local.boxes.push({ id, phrase: local.phrase, box_xyxy: box, positive });
    if (!positive) rejectIn(local.phrase, box);
    local.drawing = null;
    local.asked = positive ? "SAM 3 looks for the mask" : "SAM 3 looks again";
    redraw();
    tell({ now: true });
  };
  const notLikeThis = () => {
    const item = chosen();
    if (!item || local.drawing) return toggleDrawing("background");
    if (state(item.id) !== "open") return toggleDrawing("background");
    local.states[item.id] = "rejected";
    local.boxes.push({ id: `n${item.id}`, phrase: phraseOf(item), box_xyxy: item.corners, positive: false });
    local.asked = "SAM 3 looks again";
    chooseNext();
    redraw();
    tell({ now: true });
  };
  // What lies mostly in a box that shows no object of its phrase is none.
  const rejectIn = (phrase, [x0, y0, x1, y1]) => {
    for (const item of open()) {
      const [a0, b0, a1, b1] = item.corners;
      const both = Math.max(0, Math.min(a1, x1) - Math.max(a0, x0)) * Math.max(0, Math.min(b1, y1) - Math.max(b0, y0));
      if (phraseOf(item) === phrase && both > 0.5 * (a1 - a0) * (b1 - b0)) local.states[item.id] = "rejected";
    }
  };
  const toggleIncomplete = () => {
    local.incomplete = !local.incomplete;
    redraw();
    tell();
  };

  const KEYS = [
    ["Enter", "Accept", "Enter", () => enter()],
    ["Delete", "Reject", "Del", () => decide("rejected")],
    ["a", "Accept all, next", "A", () => acceptAll()],
    ["n", "None here, next", "N", () => noneHere()],
    ["b", "Draw a box", "B", () => toggleDrawing("object")],
    ["x", "Not like this", "X", () => notLikeThis()],
    ["m", "More than marked", "M", () => toggleIncomplete()],
    ["p", "Previous image", "P", () => data.canGoBack && go("previous")],
  ];
  const buttons = Object.fromEntries(
    KEYS.map(([key, label, shown, act]) => {
      const button = child(legend, "button");
      button.type = "button";
      child(button, "span").textContent = label;
      child(button, "kbd").textContent = shown;
      button.addEventListener("click", (event) => {
        if (event.detail) button.blur(); // a mouse: keys go to the image again
        if (!leaving) act();
      });
      return [key, button];
    }),
  );

  const onKey = (event) => {
    if (!data || event.altKey || event.ctrlKey || event.metaKey || event.repeat) return;
    const inside = stageNode.contains(event.target);
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!inside && event.target.closest?.(TYPING)) return;
    // A button that was clicked with the mouse keeps the focus, unseen: Enter is not meant for it.
    if (key === "Enter" && event.target.closest?.(PRESSED)?.matches(":focus-visible")) return;
    if (document.querySelector("[role=dialog]")) return;
    const found = KEYS.find(([name]) => name === key || (name === "Delete" && key === "Backspace"));
    let act = found?.[3];
    if (key === "ArrowDown" || key === "ArrowRight") act = () => step(1);
    if (key === "ArrowUp" || key === "ArrowLeft") act = () => step(-1);
    if (/^[1-9]$/.test(key)) act = () => setPhrase(Number(key) - 1);
    if (key === "Escape" && local.drawing) act = () => toggleDrawing(local.drawing);
    if (!act || (key === "0" && inside)) return;
    event.preventDefault();
    if (!leaving) act();
  };
  window.addEventListener("keydown", onKey);

  const button = (parent, name, text, label, act) => {
    const made = child(parent, "button", name);
    made.type = "button";
    made.textContent = text;
    if (label) made.setAttribute("aria-label", label);
    made.addEventListener("click", (event) => {
      if (event.detail) made.blur();
      if (!leaving) act();
    });
    return made;
  };

  const drawList = () => {
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    list.replaceChildren();
    for (const item of items()) {
      const phrase = phraseOf(item);
      const row = button(list, `item is-${state(item.id)}`, "", "", () => choose(item.id));
      row.dataset.id = item.id;
      row.style.setProperty("--own", known(phrase).color);
      if (item.id === local.chosen) row.setAttribute("aria-current", "true");
      child(row, "i").textContent = STATES[state(item.id)];
      child(row, "b").textContent = phrase;
      if (item.score !== null) child(row, "span", "score").textContent = item.score.toFixed(2);
      if (item.about) child(row, "span", "about").textContent = item.about;
      row.setAttribute("aria-label", `${phrase}, ${state(item.id)}${item.about ? `, ${item.about}` : ""}`);
      if (item.id === focused) row.focus();
    }
    list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  };

  const drawPhrases = () => {
    phrases.replaceChildren();
    const now = local.drawing ? local.phrase : chosen() ? phraseOf(chosen()) : null;
    data.phrases.forEach((one, place) => {
      const made = button(phrases, "phrase", "", "", () => setPhrase(place));
      made.style.setProperty("--own", one.color);
      if (place < 9) child(made, "kbd").textContent = place + 1;
      child(made, "span").textContent = one.name;
      made.setAttribute("aria-pressed", String(one.name === now));
    });
  };

  const stageData = () => ({
    ...data.stage,
    image: data.stage.image,
    imageKey: data.imageKey,
    drawing: local.drawing === "object" ? known(local.phrase).color : local.drawing ? "#d63031" : null,
    objects: items().map((item) => {
      const { color, ink } = known(phraseOf(item));
      const emphasis = item.id === local.chosen ? "is-chosen" : state(item.id) === "rejected" ? "is-faint" : "is-thin";
      const dashed = state(item.id) === "open" && item.id !== local.chosen ? "is-open" : "";
      const score = item.score === null ? "" : ` ${item.score.toFixed(2)}`;
      const shown = { ...item.shown, color, ink, emphasis: [emphasis, dashed].filter(Boolean) };
      return { ...shown, name: `${phraseOf(item)}${score}`, unlabelled: item.id !== local.chosen };
    }),
  });

  const redraw = () => {
    viewer.update(stageData());
    drawList();
    drawPhrases();
    title.textContent = data.name;
    progress.replaceChildren();
    child(progress, "b").textContent = data.progress[0];
    for (const line of data.progress.slice(1)) child(progress, "span").textContent = line;
    const left = open().length;
    const doing = local.drawing === "object" ? `Drag around a ${local.phrase}. Esc ends.` : "";
    const undoing = local.drawing === "background" ? `Drag around what is no ${local.phrase}. Esc ends.` : "";
    const count = left ? `${left} to decide` : items().length ? "All decided" : "Nothing proposed";
    waiting.textContent = doing || undoing || local.asked || (leaving ? "Saving" : count);
    node.classList.toggle("is-leaving", leaving);
    const enterLabel = buttons.Enter.querySelector("span");
    enterLabel.textContent = left ? "Accept" : "Next image";
    buttons.Delete.disabled = !chosen();
    buttons.p.disabled = !data.canGoBack;
    buttons.b.setAttribute("aria-pressed", String(local.drawing === "object"));
    buttons.x.setAttribute("aria-pressed", String(local.drawing === "background"));
    buttons.m.setAttribute("aria-pressed", String(local.incomplete));
  };

  return {
    update(next, setStateValue) {
      send = setStateValue;
      const same = data && data.imageKey === next.imageKey && data.session === next.session;
      data = next;
      if (!same) {
        number = Math.max(number, next.heard);
        leaving = false;
        local = { states: {}, phrases: {}, boxes: next.boxes, incomplete: next.incomplete };
        local = { ...local, chosen: null, drawing: null, phrase: null, asked: "" };
        node.dataset.shown = String(performance.now());
      }
      if (next.heard >= sent) {
        leaving = false; // saving has failed, or a box was answered
        local.asked = "";
      }
      for (const item of next.items) {
        if (item.id in local.states) continue;
        local.states[item.id] = item.state;
      }
      if (!items().some((item) => item.id === local.chosen)) {
        local.chosen = items().find((item) => state(item.id) === "open")?.id ?? items()[0]?.id ?? null;
      }
      redraw();
      node.dataset.image = next.imageKey;
    },
    destroy() {
      clearTimeout(sending);
      window.removeEventListener("keydown", onKey);
      viewer.destroy();
      node.replaceChildren();
    },
  };
}
