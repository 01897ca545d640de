// Counts the arrow keys: +1 for each right, -1 for each left. A count, unlike a click, loses nothing when Streamlit
// merges what comes while the page is still being drawn, or takes this component off and puts it on again.

const PAUSE = 120; // milliseconds between two messages while a key is held
const GONE = 1500; // milliseconds after which a component that was taken off is not put on again
const CONTROLS = "input, textarea, select, [contenteditable], [role=slider], [role=tab], [role=radio], [role=grid]";

let count = 0;
let told = 0; // the count that Streamlit knows
let session = null; // whose count it is
let send = null; // tells Streamlit; null while the component is off
let sending = null;
let leaving = null;

export default function ({ data, setStateValue }) {
  if (session !== data.session) {
    session = data.session;
    count = told = data.count;
  }
  send = setStateValue;
  clearTimeout(leaving);
  window.addEventListener("keydown", onKey); // the same function again is not added twice
  if (count !== told) sendSoon();
  return () => {
    send = null;
    leaving = setTimeout(() => {
      window.removeEventListener("keydown", onKey);
      count = told;
    }, GONE);
  };
}

function onKey(event) {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.target.closest?.(CONTROLS)) return;
  count += by;
  sendSoon();
}

function sendSoon() {
  sending ??= setTimeout(() => {
    sending = null;
    if (!send) return;
    told = count;
    send("count", count);
  }, PAUSE);
}
