// The viewer alone. Streamlit calls the default export at every update of the data; the view survives these as long as
// the image stays the same. With data.pickable it tells which object was clicked, -1 for none.

export default function ({ data, parentElement, setTriggerValue }) {
  const node = parentElement.querySelector(".sam3-viewer");
  node.sam3Pick = data.pickable ? (index) => setTriggerValue("picked", index) : null;
  node.sam3Viewer ??= createViewer(node, { pick: (index) => node.sam3Pick?.(index) });
  node.sam3Viewer.update(data);
  return () => {
    node.sam3Viewer?.destroy();
    delete node.sam3Viewer;
  };
}
