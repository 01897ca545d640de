"""The inference page: prompt an image or a folder; the base model and an adapter predict side by side."""

from sam3_lora.ui.components.layout import page
from sam3_lora.ui.inference import comparison_view, folder_view, prompt_form, share_link, view_state


def main() -> None:
    with page("Inference", "Prompt the base model and your adapter, and compare their predictions side by side."):
        share_link.open_link()
        form = prompt_form.show()
        view = view_state.choose(form.prompt)
        if form.source.is_folder:
            folder_view.show(form, view)
        else:
            comparison_view.show(form, view)


main()
