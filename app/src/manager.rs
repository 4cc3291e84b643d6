//! The API: a peer that shares and receives, for programs that embed it and for the command.

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

/// How a peer is set up.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Config {
    /// Where its identity is kept, so that it is the same peer after a restart. Made if missing.
    pub data_dir: PathBuf,
    /// Where to listen; nothing listens on every address of the machine, on the device's own port or one that is free.
    pub listen: Vec<Multiaddr>,
    /// Use TCP.
    pub tcp: bool,
    /// Use QUIC.
    pub quic: bool,
    /// Find peers on the local network, and be found there.
    pub nearby: bool,
    /// Put this machine's own loopback addresses into tickets, and dial those of others' codes.
    pub loopback: bool,
    /// Put addresses of the local network into tickets.
    pub lan: bool,
    /// Find peers in the DHT, and be found there.
    pub dht: bool,
    /// Nodes of the DHT to begin with, each ending in `/p2p/ID`. With none it is the public libp2p network; with
    /// `loopback` it is no DHT then.
    pub bootstrap: Vec<Multiaddr>,
    /// Relays to be reachable through before any that are met, each ending in `/p2p/ID`.
    pub relays: Vec<Multiaddr>,
    /// Serve the DHT and relay for others, within small quotas, while this machine is reachable itself.
    pub serve: bool,
    /// Let other peers see relays only, and never this machine's address. (Relays and nodes of the DHT see it.)
    pub hide_address: bool,
    /// With `hide_address`: use relays that nobody but the other side has named without asking.
    pub any_relay: bool,
    /// Talk to other peers straight where that is possible.
    pub direct: bool,
    /// Ask the router for a port.
    pub port_mapping: bool,
    /// What other sides are told this device is called. May be empty.
    pub device_name: String,
    /// The data folder in which it is noted which files are where, so that none is fetched that is here already.
    /// Without one, only those in a download's own folder are found.
    pub known_files: Option<PathBuf>,
    /// The data folder in which it is noted how often the words of which short code were tried: a code may be tried five
    /// times, over all runs. Without one it is `data_dir`.
    pub short_codes: Option<PathBuf>,
    /// Peers that are known by agreement: some of the connections are kept for them.
    pub known_peers: Vec<PeerId>,
    /// What peers may make grow, and how far.
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

/// Relays that a peer is reachable through at once, while it is not reachable itself.
const RESERVATIONS: usize = 3;
/// Beside the identity: where this device was reachable.
const RELAY_MEMORY: &str = "relays";

/// How long a peer has to be reachable before others are told to use it: who sends one file is gone before.
const SERVE_AFTER: Duration = Duration::from_mins(10);
/// How long peers are looked for where the DHT is asked: the sharer may still be coming up, and announcements take a
/// while to go round.
const DHT_PATIENCE: Duration = Duration::from_mins(2);

impl Config {
    /// Whether there is a DHT to ask.
    pub fn has_dht(&self) -> bool {
        self.dht && !(self.loopback && self.bootstrap.is_empty())
    }

    /// Whether a short code is enough to be found.
    pub fn has_short_codes(&self) -> bool {
        self.has_dht() || (self.nearby && !self.hide_address)
    }

    /// Whether other peers are only reached through relays.
    pub fn relayed_only(&self) -> bool {
        self.hide_address || !self.direct
    }

    /// How a share is served here, unless it is said otherwise.
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

    /// How a download is made here, unless it is said otherwise.
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

    /// Nodes and relays that this peer connects to by itself, so that they see where it is anyway.
    fn known_nodes(&self) -> Vec<PeerId> {
        let mut known = named(&self.relays);
        known.extend(named(&self.first_nodes()));
        known
    }

    /// Nodes of the DHT to begin with.
    fn first_nodes(&self) -> Vec<Multiaddr> {
        if self.has_dht() && self.bootstrap.is_empty() {
            public_bootstrap()
        } else {
            self.bootstrap.clone()
        }
    }

    /// How the network is used.
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
            // There is nobody to ask who would see another address than this machine does.
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

/// The peers that these addresses name at their ends.
fn named(addresses: &[Multiaddr]) -> Vec<PeerId> {
    let peer = |address: &Multiaddr| match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    };
    addresses.iter().filter_map(peer).collect()
}

/// An address that only holds on one machine or network.
fn is_private(address: &Multiaddr) -> bool {
    matches!(path_kind(address), PathKind::Loopback | PathKind::Lan)
}

/// What can go wrong between a program and the peer that it runs.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The identity can't be read or made.
    #[error("the identity in {} can't be used: {error}", dir.display())]
    Identity {
        /// The data folder.
        dir: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The network can't be used as configured.
    #[error(transparent)]
    Network(#[from] Libp2pError),
    /// The code is none.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// It was not started, or has been stopped.
    #[error("the peer is not running")]
    NotRunning,
    /// It was started before.
    #[error("the peer is running already")]
    Running,
    /// The share could not be opened; an [`Event::ShareEnded`] says why.
    #[error("the share could not be opened")]
    ShareFailed,
    /// A relay's address does not say who that is.
    #[error("the relay address {0} does not end in /p2p/ and the relay's identity")]
    Relay(Multiaddr),
    /// The operating system gives no randomness.
    #[error("no randomness from the operating system: {0}")]
    Randomness(String),
}

/// Something to share.
pub struct ShareRequest {
    /// How it presents itself.
    pub label: ShareLabel,
    /// What it is.
    pub input: ShareInput,
    /// How it is served.
    pub options: ShareOptions,
    /// What opens it, if that is to be a certain secret.
    pub secret: Option<ShareSecret>,
}

/// Something to fetch.
pub struct FetchRequest {
    /// What the other side read out.
    pub code: ShareCode,
    /// Where it goes.
    pub target: DownloadTarget,
    /// How it is fetched.
    pub options: FetchOptions,
}

/// A share that is offered.
#[derive(Debug, Clone)]
pub struct ShareInfo {
    /// Names it in events and commands.
    pub share: ShareId,
    /// What to give to the other side.
    pub ticket: Ticket,
    /// What to read out, if it has a short code.
    pub short: Option<ShortCode>,
    /// How it presents itself.
    pub label: ShareLabel,
}

impl ShareInfo {
    /// The ticket as text.
    pub fn encode(&self) -> String {
        self.ticket.encode()
    }

    /// The code in its old form, which names one address. `None` if the share has none that such a code can name.
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
/// It runs on the tokio runtime that [`UnifiedP2PManager::start`] is called on. One thread is best for speed
/// (`new_current_thread`); disk and cryptography use the runtime's blocking threads, of which two to eight are enough.
/// Events have to be read: when a thousand of them wait, everything waits.
pub struct UnifiedP2PManager {
    config: Config,
    peer: PeerId,
    state: State,
    memory: Memory,
    events: Option<mpsc::Receiver<Event>>,
}

impl UnifiedP2PManager {
    /// Loads the identity and takes the network's sockets. To be called on a tokio runtime.
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

    /// A peer over a transport of the caller's, such as the in-memory one.
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

    /// Who this peer is.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Starts it. Fails if it was started before.
    // It awaits nothing today; that it may is part of what callers can rely on.
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

    /// Everything that happens, once. Whoever takes it has to read it.
    pub fn events(&mut self) -> Option<mpsc::Receiver<Event>> {
        self.events.take()
    }

    /// Offers files and folders. Returns as soon as there is a code, before they are read.
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

    /// Offers something, with all options.
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

    /// Fetches what a code points to into a folder. `name` is what the other side is told this device is called. An
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

    /// How often a short code was tried by earlier runs, and the peer that has turned out to know it.
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

    /// Tells how peers have done before ([`standing`](crate::store::standing)): of several that could be tried, those
    /// that have done well are tried first.
    pub async fn tell_standings(&self, known: Vec<(PeerId, i32)>) -> Result<(), ManagerError> {
        self.request(Request::Standings(known)).await
    }

    /// Takes an offer.
    pub async fn accept(
        &self,
        download: DownloadId,
        terms: AcceptTerms,
    ) -> Result<(), ManagerError> {
        self.command(Command::Accept { download, terms }).await
    }

    /// Goes through these relays too, of those that were [in question](Event::RelaysInQuestion).
    pub async fn use_relays(
        &self,
        download: DownloadId,
        relays: Vec<PeerId>,
    ) -> Result<(), ManagerError> {
        self.command(Command::UseRelays { download, relays }).await
    }

    /// Refuses an offer.
    pub async fn decline(&self, download: DownloadId) -> Result<(), ManagerError> {
        self.command(Command::Decline { download }).await
    }

    /// Stops asking for more.
    pub async fn pause(&self, download: DownloadId) -> Result<(), ManagerError> {
        self.command(Command::Pause { download }).await
    }

    /// Goes on after a pause.
    pub async fn resume(&self, download: DownloadId) -> Result<(), ManagerError> {
        self.command(Command::Resume { download }).await
    }

    /// Ends a download for this run; another one can go on with what is there by then. One that is not worth it yet is
    /// cancelled.
    pub async fn suspend(&self, download: DownloadId) -> Result<(), ManagerError> {
        self.command(Command::Suspend { download }).await
    }

    /// Gives a download up.
    pub async fn cancel(&self, download: DownloadId) -> Result<(), ManagerError> {
        self.command(Command::Cancel { download }).await
    }

    /// Withdraws a share.
    pub async fn stop_sharing(&self, share: ShareId) -> Result<(), ManagerError> {
        self.command(Command::Unshare { share }).await
    }

    /// Lets no more than so many bytes of content a second go from now on; `None` takes the limit away. What is limited
    /// has to be there: the limits of a share or download go with it.
    pub async fn set_limit(&self, limited: Limited, rate: Option<u64>) -> Result<(), ManagerError> {
        self.command(Command::Limit { limited, rate }).await
    }

    /// Gives a share or download more or less of a limit that all have in common.
    pub async fn set_priority(
        &self,
        of: TransferId,
        priority: Priority,
    ) -> Result<(), ManagerError> {
        self.command(Command::Priority { of, priority }).await
    }

    /// Answers no more requests of a share. Its receivers are told, and wait.
    pub async fn pause_share(&self, share: ShareId) -> Result<(), ManagerError> {
        self.command(Command::PauseShare { share }).await
    }

    /// Answers them again.
    pub async fn resume_share(&self, share: ShareId) -> Result<(), ManagerError> {
        self.command(Command::ResumeShare { share }).await
    }

    /// Has this peer be reachable through a relay too; the address ends in `/p2p/` and the relay's identity. Once it has
    /// a place there, tickets name that way.
    pub async fn connect_to_relay(&self, address: &Multiaddr) -> Result<(), ManagerError> {
        if !matches!(address.iter().last(), Some(Protocol::P2p(_))) {
            return Err(ManagerError::Relay(address.clone()));
        }
        self.request(Request::UseRelay(address.clone())).await
    }

    /// Ends everything: shares are withdrawn, downloads suspended, peers told. Takes a few seconds at the most.
    pub async fn stop(mut self) {
        // Events that nobody reads any more must not hold it up.
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

/// How long [`UnifiedP2PManager::stop`] waits.
const STOP: Duration = Duration::from_secs(5);
