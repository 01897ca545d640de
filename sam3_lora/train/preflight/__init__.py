"""The check before a run: settings, data, disk, memory and one real step."""
