//! `handover node`: a bootstrap node, DHT server and relay, for everybody or for a private network.

use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use handover_core::Multiaddr;
use handover_core::dial::is_relayed;
use handover_transports::libp2p::{
    ConnectionBounds, Libp2pConfig, Libp2pTransport, Listen, NetworkState, Reachable, RelayQuotas,
    Serve, public_bootstrap,
};
use handover_transports::{Transport, TransportEvent, identity, next_event};
use multiaddr::Protocol;
use tokio::time::{MissedTickBehavior, interval};

use super::args::{Global, Node};
use super::exit::Exit;
use super::failure::Failure;
use super::interrupt::Interrupts;
use super::screen::{Screen, Tone, node as words};
use super::{data_dir, json, metrics, shut_down};

/// Interval between checks for new addresses.
const LOOK: Duration = Duration::from_secs(1);
/// Interval between reports of the node's state.
const TELL: Duration = Duration::from_mins(10);

/// Serves until it is interrupted.
pub(crate) async fn run(
    args: &Node,
    global: &Global,
    screen: &Screen,
    interrupts: &mut Interrupts,
) -> Result<Exit, Failure> {
    let mut folder = data_dir::choose(global.data_dir.as_deref())?.join("node");
    let _identity = data_dir::claim(&mut folder)?;
    let keypair = identity::load_or_create(&folder).map_err(Failure::internal)?;
    let mut transport = Libp2pTransport::new(&config(args, keypair))
        .map_err(|error| Failure::usage(error.to_string(), ""))?;
    let mut metrics = match args.metrics {
        Some(address) => Some(metrics::Endpoint::bind(address).await?),
        None => None,
    };
    let result = serve(&mut transport, metrics.as_mut(), screen, interrupts).await;
    shut_down(&mut transport).await;
    result.map(|()| Exit::Done)
}

fn config(args: &Node, keypair: handover_core::Keypair) -> Libp2pConfig {
    let mut config = Libp2pConfig::new(keypair);
    config.listen = if args.listen.is_empty() {
        Listen::Port(args.port)
    } else {
        Listen::At(args.listen.clone())
    };
    config.dht = true;
    config.serve = Serve::Always;
    config.bootstrap = match (args.bootstrap.as_slice(), args.private) {
        ([], false) => public_bootstrap(),
        (given, _) => given.to_vec(),
    };
    config.reachable = match (args.external.as_slice(), args.private) {
        ([], true) => Reachable::Listening,
        ([], false) => Reachable::Ask,
        (given, _) => Reachable::At(given.to_vec()),
    };
    config.port_mapping = !args.private && args.external.is_empty();
    config.quotas = RelayQuotas {
        reservations: args.reservations,
        circuits: args.circuits,
        circuits_per_peer: args.circuits_per_peer,
        bytes_per_circuit: args.circuit_kib * 1024,
        circuit_duration: Duration::from_secs(args.circuit_seconds),
        ..RelayQuotas::default()
    };
    config.bounds = ConnectionBounds {
        total: args.connections,
        ..ConnectionBounds::default()
    };
    config
}

async fn serve(
    transport: &mut Libp2pTransport,
    mut metrics: Option<&mut metrics::Endpoint>,
    screen: &Screen,
    interrupts: &mut Interrupts,
) -> Result<(), Failure> {
    let mut told = Vec::new();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tells = interval(TELL);
    tells.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tells.reset();
    loop {
        tokio::select! {
            () = interrupts.next() => return Ok(()),
            event = next_event(transport) => match event {
                // A node has no shares.
                Some(TransportEvent::LinkUp(link)) => drop(link),
                Some(_) => {}
                None => return Err(Failure::internal("the network ended unexpectedly")),
            },
            _ = looks.tick() => addresses(transport, screen, &mut told),
            _ = tells.tick() => tell(&transport.network(), screen),
            request = request(&mut metrics) => request.answer(&metrics::text(&transport.network())),
        }
    }
}

async fn request(metrics: &mut Option<&mut metrics::Endpoint>) -> metrics::Request {
    match metrics {
        Some(endpoint) => endpoint.next().await,
        None => std::future::pending().await,
    }
}

fn tell(network: &NetworkState, screen: &Screen) {
    screen.event(&json::node_state(network));
    screen.say(Tone::Plain, &words::state(network));
}

/// Prints each address once, in the form in which others use it.
fn addresses(transport: &Libp2pTransport, screen: &Screen, told: &mut Vec<Multiaddr>) {
    let network = transport.network();
    let peer = transport.local_peer();
    let named = network.external.iter().chain(&network.listening);
    let named: Vec<_> = named
        .filter(|address| !is_relayed(address) && is_somewhere(address))
        .map(|address| address.clone().with(Protocol::P2p(peer)))
        .collect();
    for address in named {
        if told.contains(&address) {
            continue;
        }
        screen.event(&json::node_address(&address));
        if told.is_empty() {
            screen.say(Tone::Plain, words::serving());
        }
        screen.need(Tone::Strong, &words::address(&address));
        if !screen.is_json() && !io::stdout().is_terminal() {
            screen.data(&address.to_string());
        }
        told.push(address);
    }
}

/// False for `0.0.0.0` and `::`, which are listened on but name no machine.
fn is_somewhere(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip != Ipv4Addr::UNSPECIFIED,
        Some(Protocol::Ip6(ip)) => ip != Ipv6Addr::UNSPECIFIED,
        _ => true,
    }
}
