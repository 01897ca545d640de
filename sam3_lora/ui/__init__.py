"""Everything that is Streamlit: state, cached resources, widgets and charts. The core never imports from here."""
