//! Paths.
use serde::{Deserialize, Serialize};
/// A path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SafePath(String);
