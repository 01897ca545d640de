// A Plotly chart that lives in one node. Streamlit calls the default export at every update of the
// data and at every change of the theme; both end in Plotly.react on the same node.

const MARGIN = { l: 64, r: 8, t: 12, b: 48 };
const NARROW = 760; // pixels
const FEW = 4; // entries of the legend

export default function ({ data, parentElement }) {
  const node = parentElement.querySelector(".sam3-live-chart");
  node.sam3Chart ??= createChart(node);
  node.sam3Chart.update(data);
  return () => {
    node.sam3Chart?.destroy();
    delete node.sam3Chart;
  };
}

function createChart(node) {
  let wanted = null; // the newest data
  let view = null; // what the user chose: {ranges: by axis, hidden: by curve}; lives in sessionStorage
  let viewKey = null;
  let drawn = false;
  let drawing = null; // the promise of Plotly's last draw, which goes on after the call
  let held = false; // a pointer is down on the chart: redrawing now would take the drag away
  let late = false; // an update came while it was held
  let revision = 0;

  const draw = () => {
    late = held;
    if (!wanted || held || !window.Plotly || !node.isConnected) return;
    if (viewKey !== wanted.key) [view, viewKey] = [loadView(wanted.key), wanted.key];
    const theme = readTheme(node);
    const traces = wanted.curves.map((curve) => toTrace(curve, theme, view));
    const layout = toLayout(wanted, theme, view, node.clientWidth);
    layout.datarevision = ++revision; // without it Plotly skips the axis ranges when only the theme changes
    drawing = window.Plotly.react(node, traces, layout, {
      displayModeBar: false,
      responsive: true,
      doubleClick: "autosize",
    });
    if (!drawn) listen();
    drawn = true;
  };

  const listen = () => {
    node.on("plotly_relayout", (change) => {
      rememberAxis(view, xName(wanted), "xaxis", change);
      rememberAxis(view, yName(wanted), "yaxis", change);
      saveView(wanted.key, view);
    });
  };

  // Plotly takes two clicks on different entries for a double one if they come within half a second, so the legend's
  // clicks are answered here: one hides or shows a curve, a double one shows it alone, or all again.
  const answerLegend = (event) => {
    const id = entryOf(event);
    if (!id) return;
    event.stopPropagation();
    if (event.type === "click") setHidden(id, !view.hidden[id]);
    if (event.type === "dblclick") {
      const others = node.data.filter((trace) => trace.showlegend && trace.uid !== id).map((trace) => trace.uid);
      const isAlone = !view.hidden[id] && others.every((other) => view.hidden[other]);
      others.forEach((other) => setHidden(other, !isAlone));
      setHidden(id, false);
    }
    if (!event.type.startsWith("mouse")) {
      saveView(wanted.key, view);
      draw();
    }
  };
  const setHidden = (id, hidden) => {
    if (hidden) view.hidden[id] = true;
    else delete view.hidden[id];
  };
  // A new chart may be made on the same node: what this one listens to ends with it.
  const ended = new AbortController();
  const listening = { capture: true, signal: ended.signal };
  for (const type of ["mousedown", "mouseup", "click", "dblclick"]) node.addEventListener(type, answerLegend, listening);

  const hold = () => {
    held = true;
  };
  const release = () => {
    held = false;
    if (late) setTimeout(draw, 50); // after Plotly has turned the drag into a zoom
  };
  node.addEventListener("pointerdown", hold, listening);
  for (const type of ["pointerup", "pointercancel"]) window.addEventListener(type, release, { signal: ended.signal });
  window.addEventListener("sam3-plotly-ready", draw, { signal: ended.signal });

  return {
    update(data) {
      wanted = data;
      node.style.height = `${data.height}px`;
      node.setAttribute("aria-label", data.label);
      draw();
    },
    destroy() {
      ended.abort();
      // A draw that has not ended would miss what is purged; a new chart on the same node keeps it.
      drawing?.finally(() => node.sam3Chart || window.Plotly.purge(node));
    },
  };
}

function toTrace(curve, theme, view) {
  const named = { text: theme.text, muted: theme.muted, accent: theme.accent };
  const color = named[curve.color] ?? theme.palette[curve.color % theme.palette.length];
  const hidden = view.hidden[curve.of ?? curve.id];
  return {
    uid: curve.id,
    type: "scatter",
    name: curve.name,
    x: curve.x,
    y: curve.y,
    mode: curve.mode,
    line: { color, width: curve.faint ? 1 : (curve.width ?? 1.75), dash: curve.dash ?? "solid" },
    marker: { color, size: 7, symbol: "diamond" },
    opacity: curve.faint ? 0.22 : 1,
    legendgroup: curve.of ?? curve.id,
    showlegend: !curve.faint,
    hoverinfo: curve.faint ? "skip" : "x+y+name",
    hovertemplate: curve.faint ? undefined : "%{y:.4~g}",
    visible: hidden ? "legendonly" : true,
    yaxis: curve.right ? "y2" : "y",
  };
}

// Beside the plot the legend takes a third of a narrow chart; a few entries fit into a line below it.
function legendOf(data, theme, width) {
  const font = { color: theme.text };
  const entries = data.curves.filter((curve) => !curve.faint).length;
  return width < NARROW || entries <= FEW
    ? { orientation: "h", x: 0, y: -0.16, yanchor: "top", itemwidth: 30, font }
    : { orientation: "v", x: 1.01, y: 1, yanchor: "top", itemwidth: 30, font };
}

function toLayout(data, theme, view, width) {
  const axis = {
    gridcolor: theme.grid,
    linecolor: theme.grid,
    zeroline: false,
    tickfont: { color: theme.muted },
    automargin: true,
  };
  return {
    uirevision: data.key,
    height: data.height,
    margin: MARGIN,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: theme.font, size: 13, color: theme.text },
    hovermode: "x unified",
    hoverlabel: { bgcolor: theme.background, bordercolor: theme.grid, font: { color: theme.text } },
    dragmode: "zoom",
    showlegend: data.curves.filter((curve) => !curve.faint).length > 1,
    legend: legendOf(data, theme, width),
    xaxis: {
      ...axis,
      title: { text: data.xTitle, font: { color: theme.muted }, standoff: 8 },
      rangemode: "nonnegative",
      showgrid: false,
      dtick: hasFewSteps(data.curves) ? 1 : undefined, // otherwise there would be a step 1.2
      uirevision: xName(data),
      ...rangeOf(view.ranges[xName(data)]),
    },
    yaxis: {
      ...axis,
      title: { text: data.yTitle, font: { color: theme.muted }, standoff: 8 },
      type: data.log ? "log" : "linear",
      rangemode: "tozero",
      exponentformat: "none",
      minorloglabels: "complete",
      uirevision: yName(data),
      autorangeoptions: withoutOutliers(data, view),
      ...rangeOf(view.ranges[yName(data)]),
    },
    // Shares of 1; it is neither zoomed nor logarithmic.
    yaxis2: {
      ...axis,
      title: { text: data.rightTitle, font: { color: theme.muted }, standoff: 8 },
      overlaying: "y",
      side: "right",
      range: [0, 1],
      dtick: 0.2,
      tickmode: "linear", // Plotly would put them where those of the losses are
      fixedrange: true,
      showgrid: false,
    },
  };
}

// The id of the curve whose entry of the legend an event happened on; Plotly binds the curve to the entry's node.
function entryOf(event) {
  return event.target.closest?.(".legendtoggle")?.closest(".traces")?.__data__?.[0].trace.uid;
}

function hasFewSteps(curves) {
  const shown = curves.filter((curve) => curve.x.length);
  const span = Math.max(...shown.map((curve) => curve.x.at(-1))) - Math.min(...shown.map((curve) => curve.x[0]));
  return span <= 10 && shown.every((curve) => curve.x.every(Number.isInteger));
}

// Ranges are remembered by what the axis shows: steps and minutes, losses and shares, linear and logarithmic.
function xName(data) {
  return `x ${data.xTitle}`;
}

function yName(data) {
  return `y ${data.yTitle}${data.log ? " log" : ""}`;
}

// The ends of the axis that leave out the highest 2 % of each visible curve where outliers are clipped, and the lowest
// 2 % on a logarithmic one: there the dips of batches without objects would take all the space.
function withoutOutliers(data, view) {
  if (!data.clip && !data.log) return {};
  const shown = data.curves
    .filter((curve) => !curve.faint && !curve.right && !view.hidden[curve.id])
    .map((curve) => ({
      values: curve.y.filter((value) => value !== null && (value > 0 || !data.log)).sort((a, b) => a - b),
      share: curve.mode === "lines" ? 0.02 : 0, // a curve with few points has no outliers
    }))
    .filter(({ values }) => values.length);
  if (!shown.length) return {};
  const at = (values, share) => values[Math.floor((values.length - 1) * share)];
  return data.clip
    ? { clipmax: 1.05 * Math.max(...shown.map(({ values, share }) => at(values, 1 - share))) }
    : { clipmin: 0.8 * Math.min(...shown.map(({ values, share }) => at(values, share))) };
}

function rangeOf(range) {
  return range ? { range: [...range], autorange: false } : { autorange: true };
}

function rememberAxis(view, name, axis, change) {
  if (change[`${axis}.autorange`]) delete view.ranges[name];
  else if (`${axis}.range[0]` in change) view.ranges[name] = [change[`${axis}.range[0]`], change[`${axis}.range[1]`]];
  else if (change[`${axis}.range`]) view.ranges[name] = [...change[`${axis}.range`]];
}

function loadView(key) {
  try {
    const stored = JSON.parse(sessionStorage.getItem(`sam3-chart-${key}`));
    if (stored) return { ranges: {}, hidden: {}, ...stored };
  } catch {
    // Storage that is switched off or holds something else: start with the whole picture.
  }
  return { ranges: {}, hidden: {} };
}

function saveView(key, view) {
  try {
    sessionStorage.setItem(`sam3-chart-${key}`, JSON.stringify(view));
  } catch {
    // The view then lasts as long as the page does.
  }
}

function readTheme(node) {
  const style = getComputedStyle(node);
  const read = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  const text = read("--st-text-color", "#0d1517");
  return {
    text,
    background: read("--st-background-color", "#ffffff"),
    muted: read("--st-gray-text-color", text),
    accent: read("--st-primary-color", "#0f766e"),
    grid: read("--st-border-color", "#dbe2e2"),
    font: read("--st-font", "sans-serif"),
    palette: [0, 1, 2, 3, 4, 5, 6].map((index) => read(`--curve-${index}`, text)),
  };
}
