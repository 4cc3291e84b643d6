//! The API: a peer that shares and receives, used by the command and by programs that embed it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use handover_core::code::{CodeError, LegacyCode, ShareCode, ShortCode, Ticket};
use handover_core::dial::path_kind;
use handover_core::engine::{
    AcceptTerms, Command, DownloadId, Event, FetchKey, FetchOptions, FetchSource, Limited,
    PathKind, Priority, ShareId, ShareLabel, ShareOptions, Short, SinkKind, TransferId,
};
use handover_core::limits::Limits;
use handover_core::secret::ShareSecret;
use handover_core::{Multiaddr, PeerId};
use handover_transports::libp2p::{
    Libp2pConfig, Libp2pError, Libp2pTransport, Listen, Reachable, Serve, public_bootstrap,
};
use handover_transports::{Transport, identity};
use multiaddr::Protocol;
use tokio::sync::{mpsc, oneshot};

use crate::disk::{DownloadTarget, ShareInput};
use crate::driver::{self, Handle, Memory, Request};
use crate::port;
use crate::store::{KnownFiles, Proved, ShortCodes};

/// Configuration of a peer.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Config {
    /// Folder that stores the identity, so that this is the same peer after a restart. Created if missing.
    pub data_dir: PathBuf,
    /// Listen addresses. If empty, listens on all addresses of the machine, on the device's own port or, if that is
    /// taken, on a free one.
    pub listen: Vec<Multiaddr>,
    /// Use TCP.
    pub tcp: bool,
    /// Use QUIC.
    pub quic: bool,
    /// Find peers on the local network and be found there, by mDNS.
    pub nearby: bool,
    /// Put the machine's loopback addresses into tickets, and dial loopback addresses from others' codes.
    pub loopback: bool,
    /// Put LAN addresses into tickets.
    pub lan: bool,
    /// Find peers in the DHT, and be found there.
    pub dht: bool,
    /// Bootstrap nodes of the DHT, each address ending in `/p2p/ID`. If empty, those of the public libp2p network are
    /// used, or no DHT at all with `loopback`.
    pub bootstrap: Vec<Multiaddr>,
    /// Relays to be reachable through in preference to discovered ones, each address ending in `/p2p/ID`.
    pub relays: Vec<Multiaddr>,
    /// Serve the DHT and relay for others, within small quotas, while this machine is reachable itself.
    pub serve: bool,
    /// Never show this machine's address to other peers: connect to them through relays only. (Relays and nodes of the
    /// DHT see it.)
    pub hide_address: bool,
    /// With `hide_address`: use relays that only the other side has named, without asking the user.
    pub any_relay: bool,
    /// Make direct connections to other peers where possible.
    pub direct: bool,
    /// Request a port mapping from the gateway.
    pub port_mapping: bool,
    /// The device's name as told to other peers. May be empty.
    pub device_name: String,
    /// Data folder with the database of known files, so that files already on this device are not fetched again. If
    /// `None`, only files in a download's own folder are found.
    pub known_files: Option<PathBuf>,
    /// Data folder with the counts of attempts per short code: a code may be tried five times, over all runs. If
    /// `None`, `data_dir`.
    pub short_codes: Option<PathBuf>,
    /// Paired peers: some of the connections are reserved for them.
    pub known_peers: Vec<PeerId>,
    /// Limits on everything that peers can make grow.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from(".handover"),
            listen: Vec::new(),
            tcp: true,
            quic: true,
            nearby: true,
            loopback: false,
            lan: false,
            dht: true,
            bootstrap: Vec::new(),
            relays: Vec::new(),
            serve: true,
            hide_address: false,
            any_relay: false,
            direct: true,
            port_mapping: true,
            device_name: String::new(),
            known_files: None,
            short_codes: None,
            known_peers: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// Number of reservations at relays while this peer is not reachable itself.
const RESERVATIONS: usize = 3;
/// Name of the file that stores the relays this device was reachable through, beside the identity.
const RELAY_MEMORY: &str = "relays";

/// How long a peer must have been reachable before it offers to serve others: a peer that sends one file is gone
/// earlier.
const SERVE_AFTER: Duration = Duration::from_mins(10);
/// How long to search for peers when the DHT is used: the sharer may still be starting, and announcements take a while
/// to spread.
const DHT_PATIENCE: Duration = Duration::from_mins(2);

impl Config {
    /// True if there is a DHT to use.
    pub fn has_dht(&self) -> bool {
        self.dht && !(self.loopback && self.bootstrap.is_empty())
    }

    /// True if peers can be found by a short code alone.
    pub fn has_short_codes(&self) -> bool {
        self.has_dht() || (self.nearby && !self.hide_address)
    }

    /// True if other peers are reached only through relays.
    pub fn relayed_only(&self) -> bool {
        self.hide_address || !self.direct
    }

    /// The default options for shares.
    pub fn share_options(&self) -> ShareOptions {
        ShareOptions {
            uses: None,
            expires: None,
            loopback: self.loopback,
            lan: self.lan,
            dht: self.has_dht(),
            relayed_only: self.relayed_only(),
            short: if self.has_short_codes() {
                Short::New
            } else {
                Short::None
            },
            words: 2,
            only: None,
            remember: false,
        }
    }

    /// The default options for downloads.
    pub fn fetch_options(&self) -> FetchOptions {
        FetchOptions {
            name: self.device_name.clone(),
            loopback: self.loopback,
            dht: self.has_dht(),
            relayed_only: self.relayed_only(),
            search: self.has_dht().then_some(DHT_PATIENCE),
            remember: false,
            seed: true,
            seed_for: None,
            own_folder: true,
            relays: named(&self.relays),
            only_relays: (self.hide_address && !self.any_relay).then(|| self.known_nodes()),
            proofs_sent: 0,
        }
    }

    /// Nodes and relays that this peer connects to anyway, so that they see its address in any case.
    fn known_nodes(&self) -> Vec<PeerId> {
        let mut known = named(&self.relays);
        known.extend(named(&self.first_nodes()));
        known
    }

    /// Bootstrap nodes of the DHT.
    fn first_nodes(&self) -> Vec<Multiaddr> {
        if self.has_dht() && self.bootstrap.is_empty() {
            public_bootstrap()
        } else {
            self.bootstrap.clone()
        }
    }

    /// The transport's configuration.
    pub fn network(&self, keypair: handover_core::Keypair) -> Libp2pConfig {
        let mut network = Libp2pConfig::new(keypair);
        network.tcp = self.tcp;
        network.quic = self.quic;
        network.nearby = self.nearby;
        network.known.clone_from(&self.known_peers);
        if !self.listen.is_empty() {
            network.listen = Listen::At(self.listen.clone());
        }
        network.dht = self.has_dht();
        network.relays.clone_from(&self.relays);
        network.bootstrap = self.first_nodes();
        let private = !network.bootstrap.is_empty() && network.bootstrap.iter().all(is_private);
        if private || self.loopback {
            // There is no public peer that could observe an external address other than this machine's own.
            network.reachable = Reachable::Listening;
        }
        if self.serve && network.dht && !private {
            network.serve = Serve::WhenReachable(SERVE_AFTER);
        }
        network.direct = !self.hide_address;
        network.punch = self.direct && !self.loopback && network.dht;
        network.port_mapping = self.port_mapping && !self.loopback && network.dht;
        network.reservations = if network.dht { RESERVATIONS } else { 0 };
        network
    }
}

/// The peer ids at the ends of these addresses.
fn named(addresses: &[Multiaddr]) -> Vec<PeerId> {
    let peer = |address: &Multiaddr| match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    };
    addresses.iter().filter_map(peer).collect()
}

/// True if the address is valid only on one machine or local network.
fn is_private(address: &Multiaddr) -> bool {
    matches!(path_kind(address), PathKind::Loopback | PathKind::Lan)
}

/// Errors of the API.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The identity cannot be read or created.
    #[error("the identity in {} can't be used: {error}", dir.display())]
    Identity {
        /// The data folder.
        dir: PathBuf,
        /// The cause.
        error: std::io::Error,
    },
    /// The network cannot be used as configured.
    #[error(transparent)]
    Network(#[from] Libp2pError),
    /// The code is invalid.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The peer was not started, or has been stopped.
    #[error("the peer is not running")]
    NotRunning,
    /// The peer was started before.
    #[error("the peer is running already")]
    Running,
    /// The share could not be opened; an [`Event::ShareEnded`] has the reason.
    #[error("the share could not be opened")]
    ShareFailed,
    /// The relay's address does not end in its peer id.
    #[error("the relay address {0} does not end in /p2p/ and the relay's identity")]
    Relay(Multiaddr),
    /// The operating system provides no randomness.
    #[error("no randomness from the operating system: {0}")]
    Randomness(String),
}

/// A request to share something.
pub struct ShareRequest {
    /// Name, description and author shown to receivers.
    pub label: ShareLabel,
    /// The content.
    pub input: ShareInput,
    /// Options for serving it.
    pub options: ShareOptions,
    /// The share's secret. If `None`, a new one is generated.
    pub secret: Option<ShareSecret>,
}

/// A request to fetch something.
pub struct FetchRequest {
    /// The code that the sharer handed out.
    pub code: ShareCode,
    /// The target folder or pipe.
    pub target: DownloadTarget,
    /// Options for the download.
    pub options: FetchOptions,
}

/// An open share.
#[derive(Debug, Clone)]
pub struct ShareInfo {
    /// Id of the share in events and commands.
    pub share: ShareId,
    /// The ticket to give to the receiver.
    pub ticket: Ticket,
    /// The short code to read out, if the share has one.
    pub short: Option<ShortCode>,
    /// Name, description and author shown to receivers.
    pub label: ShareLabel,
}

impl ShareInfo {
    /// The ticket as text.
    pub fn encode(&self) -> String {
        self.ticket.encode()
    }

    /// The legacy code, which holds a single address. `None` if the share has no address that fits into one.
    pub fn legacy(&self) -> Option<LegacyCode> {
        LegacyCode::of(&self.ticket)
    }
}

enum State {
    New(Box<dyn Transport>, Box<handover_core::Keypair>),
    Running(Handle),
    Stopped,
}

/// A peer: shares and downloads over one identity and one network.
///
/// It runs on the tokio runtime that [`UnifiedP2PManager::start`] is called on. A single-threaded one is fastest
/// (`new_current_thread`); disk and cryptography use the runtime's blocking threads, of which two to eight are enough.
/// Events must be read: once a thousand of them are queued, the peer stalls.
pub struct UnifiedP2PManager {
    config: Config,
    peer: PeerId,
    state: State,
    memory: Memory,
    events: Option<mpsc::Receiver<Event>>,
}

impl UnifiedP2PManager {
    /// Loads the identity and opens the network's sockets. Must be called on a tokio runtime.
    pub fn new(config: Config) -> Result<Self, ManagerError> {
        let keypair =
            identity::load_or_create(&config.data_dir).map_err(|error| ManagerError::Identity {
                dir: config.data_dir.clone(),
                error,
            })?;
        let mut network = config.network(keypair.clone());
        if let (Listen::Port(0), Some(port)) = (&network.listen, port::of(&config.data_dir)) {
            network.listen = Listen::Preferably(port);
        }
        network.relay_memory = Some(config.data_dir.join(RELAY_MEMORY));
        let transport = Libp2pTransport::new(&network)?;
        let codes = config.short_codes.as_ref().unwrap_or(&config.data_dir);
        let codes = ShortCodes::in_folder(codes);
        let mut manager = Self::over(Box::new(transport), keypair, config);
        manager.memory.codes = Some(codes);
        Ok(manager)
    }

    /// Creates a peer over a transport of the caller's, such as the in-memory one.
    pub fn over(
        transport: Box<dyn Transport>,
        keypair: handover_core::Keypair,
        config: Config,
    ) -> Self {
        let known = config.known_files.as_deref();
        let codes = config.short_codes.as_deref();
        Self {
            memory: Memory {
                known: known.map(KnownFiles::in_folder),
                codes: codes.map(ShortCodes::in_folder),
            },
            config,
            peer: transport.local_peer(),
            state: State::New(transport, Box::new(keypair)),
            events: None,
        }
    }

    /// The peer's id.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Starts the peer. Fails if it was started before.
    // Awaits nothing today; that it may is part of the API.
    #[allow(clippy::unused_async)]
    pub async fn start(&mut self) -> Result<(), ManagerError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| ManagerError::Randomness(error.to_string()))?;
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::New(transport, keypair) => {
                let (limits, memory) = (self.config.limits.clone(), self.memory.clone());
                let mut handle = driver::start(*keypair, seed, limits, memory, transport);
                self.events = handle.events.take();
                self.state = State::Running(handle);
                Ok(())
            }
            other => {
                self.state = other;
                Err(ManagerError::Running)
            }
        }
    }

    /// Returns the channel of all events: once, after the start. The caller must read it.
    pub fn events(&mut self) -> Option<mpsc::Receiver<Event>> {
        self.events.take()
    }

    /// Shares files and folders. Returns as soon as there is a code, before they are read.
    pub async fn start_sharing(
        &self,
        name: &str,
        description: &str,
        paths: Vec<PathBuf>,
        author: &str,
    ) -> Result<ShareInfo, ManagerError> {
        let label = ShareLabel {
            name: name.to_string(),
            description: description.to_string(),
            author: author.to_string(),
        };
        let options = self.config.share_options();
        let input = ShareInput::Paths(paths);
        self.share(ShareRequest {
            label,
            input,
            options,
            secret: None,
        })
        .await
    }

    /// Shares something, with all options.
    pub async fn share(&self, request: ShareRequest) -> Result<ShareInfo, ManagerError> {
        let ShareRequest {
            label,
            input,
            options,
            secret,
        } = request;
        let told = label.clone();
        let (reply, answer) = oneshot::channel();
        self.request(Request::Share {
            command: Box::new(move |share| Command::Share {
                share,
                label: told,
                secret,
                options,
            }),
            input,
            reply,
        })
        .await?;
        let (share, ticket, short) = answer.await.map_err(|_| ManagerError::ShareFailed)?;
        Ok(ShareInfo {
            share,
            ticket,
            short,
            label,
        })
    }

    /// Fetches what a code refers to into a folder. `name` is this device's name as told to the other side. An
    /// [`Event::Offer`] follows, to be answered with [`UnifiedP2PManager::accept`] or `decline`.
    pub async fn start_receiving(
        &self,
        connection_string: &str,
        folder: &Path,
        name: &str,
    ) -> Result<DownloadId, ManagerError> {
        self.fetch(FetchRequest {
            code: ShareCode::parse(connection_string)?,
            target: DownloadTarget::Folder(folder.to_path_buf()),
            options: FetchOptions {
                name: name.to_string(),
                ..self.config.fetch_options()
            },
        })
        .await
    }

    /// Fetches something, with all options.
    pub async fn fetch(&self, request: FetchRequest) -> Result<DownloadId, ManagerError> {
        let mut options = request.options;
        let code = match &request.code {
            ShareCode::Short(code) => Some(code.clone()),
            ShareCode::Ticket(_) | ShareCode::Legacy(_) => None,
        };
        let source = match request.code {
            ShareCode::Ticket(ticket) => FetchSource {
                peer: Some(ticket.peer),
                addresses: ticket.addresses,
                key: FetchKey::Secret(ticket.secret),
            },
            ShareCode::Legacy(code) => FetchSource {
                peer: None,
                addresses: code.addresses(),
                key: FetchKey::Secret(code.secret),
            },
            ShareCode::Short(code) => {
                let proved = self.proved(&code).await;
                options.proofs_sent = proved.sent;
                FetchSource {
                    peer: proved.sharer,
                    addresses: Vec::new(),
                    key: FetchKey::Short(code),
                }
            }
        };
        let sink = match &request.target {
            DownloadTarget::Folder(_) => SinkKind::Folder,
            DownloadTarget::Pipe(_) => SinkKind::Pipe,
        };
        let (reply, answer) = oneshot::channel();
        self.request(Request::Fetch {
            command: Box::new(move |download| Command::Fetch {
                download,
                source,
                sink,
                options: Box::new(options),
            }),
            target: request.target,
            code,
            reply,
        })
        .await?;
        answer.await.map_err(|_| ManagerError::NotRunning)
    }

    /// The number of attempts that earlier runs made at a short code, and the peer that proved to know its words.
    async fn proved(&self, code: &ShortCode) -> Proved {
        let Some(codes) = self.memory.codes.clone() else {
            return Proved::default();
        };
        let code = code.clone();
        let read = tokio::task::spawn_blocking(move || codes.of(&code)).await;
        match read {
            Ok(Ok(proved)) => proved,
            Ok(Err(error)) => {
                tracing::warn!(%error, "how often this code was tried before is not known");
                Proved::default()
            }
            Err(_) => Proved::default(),
        }
    }

    /// Sets the reputation of peers from earlier runs ([`standing`](crate::store::standing)): where several could be
    /// tried, those with the best reputation are tried first.
    pub async fn tell_standings(&self, known: Vec<(PeerId, i32)>) -> Result<(), ManagerError> {
        self.request(Request::Standings(known)).await
    }

    /// Accepts an offer.
    pub async fn accept(
        &self,
        download: DownloadId,
        terms: AcceptTerms,
    ) -> Result<(), ManagerError> {
        self.command(Command::Accept { download, terms }).await
    }

    /// Allows the use of these relays too, from those that were [in question](Event::RelaysInQuestion).
    pub async fn use_relays(
        &self,
        download: DownloadId,
        relays: Vec<PeerId>,
    ) -> Result<(), ManagerError> {
        self.command(Command::UseRelays { download, relays }).await
    }

    /// Declines an offer.
    pub async fn decline(&self, download: DownloadId) -> Result<(), ManagerError> {
        self.command(Command::Decline { download }).await
    }

    /// Pauses a download: requests nothing more.
    pub async fn pause(&self, download: DownloadId) -> Result<(), ManagerError> {
        self.command(Command::Pause { download }).await
    }

    /// Resumes a paused download.
    pub async fn resume(&self, download: DownloadId) -> Result<(), ManagerError> {
        self.command(Command::Resume { download }).await
    }

    /// Ends a download for this run; another run can resume it from what is there by then. A download with too little
    /// to be worth resuming is cancelled.
    pub async fn suspend(&self, download: DownloadId) -> Result<(), ManagerError> {
        self.command(Command::Suspend { download }).await
    }

    /// Cancels a download.
    pub async fn cancel(&self, download: DownloadId) -> Result<(), ManagerError> {
        self.command(Command::Cancel { download }).await
    }

    /// Ends a share.
    pub async fn stop_sharing(&self, share: ShareId) -> Result<(), ManagerError> {
        self.command(Command::Unshare { share }).await
    }

    /// Sets a rate limit, in bytes of content per second; `None` removes it. The limited share or download must exist,
    /// and its limits end with it.
    pub async fn set_limit(&self, limited: Limited, rate: Option<u64>) -> Result<(), ManagerError> {
        self.command(Command::Limit { limited, rate }).await
    }

    /// Sets the portion that a share or download gets of a rate limit common to all.
    pub async fn set_priority(
        &self,
        of: TransferId,
        priority: Priority,
    ) -> Result<(), ManagerError> {
        self.command(Command::Priority { of, priority }).await
    }

    /// Stops answering requests of a share. Its receivers are told, and wait.
    pub async fn pause_share(&self, share: ShareId) -> Result<(), ManagerError> {
        self.command(Command::PauseShare { share }).await
    }

    /// Answers requests of a paused share again.
    pub async fn resume_share(&self, share: ShareId) -> Result<(), ManagerError> {
        self.command(Command::ResumeShare { share }).await
    }

    /// Makes this peer reachable through a relay too; the address must end in `/p2p/` and the relay's peer id. Once
    /// there is a reservation, tickets contain the relayed address.
    pub async fn connect_to_relay(&self, address: &Multiaddr) -> Result<(), ManagerError> {
        if !matches!(address.iter().last(), Some(Protocol::P2p(_))) {
            return Err(ManagerError::Relay(address.clone()));
        }
        self.request(Request::UseRelay(address.clone())).await
    }

    /// Stops everything: ends shares, suspends downloads, tells peers. Takes a few seconds at most.
    pub async fn stop(mut self) {
        // Unread events must not delay the shutdown.
        drop(self.events.take());
        let State::Running(handle) = std::mem::replace(&mut self.state, State::Stopped) else {
            return;
        };
        let _ = handle
            .requests
            .send(Request::Command(Command::Shutdown))
            .await;
        drop(handle.requests);
        if tokio::time::timeout(STOP, handle.task).await.is_err() {
            tracing::warn!("the peer did not stop in time");
        }
    }

    async fn command(&self, command: Command) -> Result<(), ManagerError> {
        self.request(Request::Command(command)).await
    }

    async fn request(&self, request: Request) -> Result<(), ManagerError> {
        let State::Running(handle) = &self.state else {
            return Err(ManagerError::NotRunning);
        };
        handle
            .requests
            .send(request)
            .await
            .map_err(|_| ManagerError::NotRunning)
    }
}

/// Timeout of [`UnifiedP2PManager::stop`].
const STOP: Duration = Duration::from_secs(5);
