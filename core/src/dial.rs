//! Which addresses of a code are dialled.
