"""Training: the loop and what it needs, before the first step and after each one.

Before the start: preflight checks the settings; setup ties together data_loaders, model, optimizer and accelerator.
While training:   loop (fit) takes each step, validates, writes sample_predictions, saves a checkpoint, obeys requests.
At the end:       reload_check verifies the saved adapter; model_card describes it.
"""
