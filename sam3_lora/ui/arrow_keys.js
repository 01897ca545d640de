// Counts the arrow keys: +1 for each right, -1 for each left. A count, unlike a click, loses nothing when Streamlit
// merges what comes while the page is still being drawn.

const PAUSE = 120; // milliseconds between two messages while a key is held
const CONTROLS = "input, textarea, select, [contenteditable], [role=slider], [role=tab], [role=radio], [role=grid]";

let count = 0;
let session = null; // whose count it is
let send = null; // tells Streamlit; null while nothing listens
let timer = null;

export default function ({ data, setStateValue }) {
  if (session !== data.session) [session, count] = [data.session, data.count];
  send = setStateValue;
  window.addEventListener("keydown", onKey); // the same function again is not added twice
  return () => {
    send = null;
    window.removeEventListener("keydown", onKey);
  };
}

function onKey(event) {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.target.closest?.(CONTROLS)) return;
  count += by;
  timer ??= setTimeout(() => {
    timer = null;
    send?.("count", count);
  }, PAUSE);
}
