//! handover moves files straight from one computer to another, with no server in between.
//!
//! [`UnifiedP2PManager`] is the peer: it shares and receives. Under it are the engine of `handover-core`, which decides,
//! a transport of `handover-transports`, which connects, and the [`disk`].

mod buffers;
pub mod disk;
mod driver;
pub mod landing;
mod manager;
mod port;
pub mod store;

pub use manager::{Config, FetchRequest, ManagerError, ShareInfo, ShareRequest, UnifiedP2PManager};
