//! The log against a plain list of entries.
