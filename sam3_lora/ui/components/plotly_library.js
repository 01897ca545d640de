// Puts plotly.js, which comes as bytes, into the page once; charts wait for window.sam3Plotly.
export default function ({ data }) {
  if (window.sam3PlotlyRequested || !data) return;
  window.sam3PlotlyRequested = true;
  const url = URL.createObjectURL(new Blob([data], { type: "text/javascript" }));
  const script = document.createElement("script");
  script.src = url;
  script.onload = () => {
    URL.revokeObjectURL(url);
    window.dispatchEvent(new Event("sam3-plotly-ready"));
  };
  script.onerror = () => {
    window.sam3PlotlyRequested = false;
  };
  document.head.appendChild(script);
}
