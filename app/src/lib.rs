//! handover moves files straight from one computer to another, with no server in between.
//!
//! [`UnifiedP2PManager`] is the peer: it shares and receives. It runs the engine of `handover-core`, which makes the
//! decisions, on a transport of `handover-transports`, which makes the connections, and on the [`disk`].

mod buffers;
pub mod disk;
mod driver;
pub mod landing;
mod manager;
mod port;
pub mod store;

pub use manager::{Config, FetchRequest, ManagerError, ShareInfo, ShareRequest, UnifiedP2PManager};
