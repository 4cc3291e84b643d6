//! The engine.
mod io;
pub use io::*;
