//! The engine: discovery, claims, formats, names.
