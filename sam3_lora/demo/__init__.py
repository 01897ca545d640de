"""The demo that ships with the app: a copy of its dataset with every fault that the app can find."""
