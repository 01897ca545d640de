"""A split as arrays: parsed once, kept in a cache, mapped into memory."""
