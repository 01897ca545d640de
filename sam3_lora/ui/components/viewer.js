// The viewer alone. Streamlit calls the default export at every update of the data; the view survives these as long as
// the image stays the same.

export default function ({ data, parentElement }) {
  const node = parentElement.querySelector(".sam3-viewer");
  node.sam3Viewer ??= createViewer(node);
  node.sam3Viewer.update(data);
  return () => {
    node.sam3Viewer?.destroy();
    delete node.sam3Viewer;
  };
}
