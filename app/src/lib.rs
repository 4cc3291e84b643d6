//! app
pub mod disk;
