"""The label page: a model proposes objects in images, a person confirms them, and they become a dataset."""

from sam3_lora.ui.components.layout import page
from sam3_lora.ui.label import label_view, sessions


def main() -> None:
    with page("Label", "Turn images into a dataset: the model proposes objects, you confirm them with a key."):
        session = sessions.current()
        if session is None:
            sessions.show_start()
        else:
            label_view.show(session)


main()
