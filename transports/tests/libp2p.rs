//! Tests specific to libp2p: several transports at once, bounds, and interoperability with other libp2p programs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use handover_core::engine::{DialId, LinkId};
use handover_core::{Keypair, Multiaddr, PeerId};
use handover_transports::libp2p::link::{self, LinkEvent};
use handover_transports::libp2p::{Libp2pConfig, Libp2pError, Libp2pTransport, Listen};
use handover_transports::{Transport, TransportEvent, next_event};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{Swarm, SwarmEvent};
use libp2p::{SwarmBuilder, identify, noise, tcp, yamux};

fn config(listen: &[&str]) -> Libp2pConfig {
    let mut config = Libp2pConfig::new(Keypair::generate_ed25519());
    let addresses = listen.iter().map(|address| address.parse().unwrap());
    config.listen = match listen {
        [] => Listen::Nowhere,
        _ => Listen::At(addresses.collect()),
    };
    config
}

fn transport(listen: &[&str]) -> Libp2pTransport {
    Libp2pTransport::new(&config(listen)).unwrap()
}

/// Waits until the transport listens on `count` addresses, then runs it in a task.
async fn serve(mut transport: Libp2pTransport, count: usize) -> (PeerId, Vec<Multiaddr>) {
    let addresses = loop {
        match next_event(&mut transport).await {
            Some(TransportEvent::Listening(addresses)) if addresses.len() >= count => {
                break addresses;
            }
            Some(TransportEvent::Listening(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    let peer = transport.local_peer();
    tokio::spawn(async move {
        let mut links = Vec::new();
        while let Some(event) = next_event(&mut transport).await {
            if let TransportEvent::LinkUp(link) = event {
                links.push(link);
            }
        }
    });
    (peer, addresses)
}

async fn event(transport: &mut Libp2pTransport) -> TransportEvent {
    let event = tokio::time::timeout(Duration::from_secs(15), next_event(transport));
    event.await.expect("an event in time").expect("an event")
}

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

fn is_tcp(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Tcp(_)))
}

#[tokio::test]
async fn tcp_is_preferred_where_both_get_through() {
    let (peer, addresses) = serve(transport(&[TCP, QUIC]), 2).await;
    for round in 0..5 {
        let mut a = transport(&[]);
        a.dial(DialId(round), Some(peer), addresses.clone());
        match event(&mut a).await {
            TransportEvent::LinkUp(link) => assert!(is_tcp(&link.remote), "{}", link.remote),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn quic_follows_at_once_where_tcp_is_refused() {
    let (peer, mut addresses) = serve(transport(&[QUIC]), 1).await;
    addresses.insert(0, "/ip4/127.0.0.1/tcp/1".parse().unwrap());
    let mut a = transport(&[]);
    let began = Instant::now();
    a.dial(DialId(0), Some(peer), addresses);
    let up = event(&mut a).await;
    assert!(matches!(up, TransportEvent::LinkUp(_)), "{up:?}");
    assert!(began.elapsed() < Duration::from_millis(400));
}

#[tokio::test]
async fn quic_follows_soon_where_tcp_is_silent() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let (peer, mut addresses) = serve(transport(&[QUIC]), 1).await;
    addresses.insert(0, format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap());
    for known in [Some(peer), None] {
        let mut a = transport(&[]);
        let began = Instant::now();
        a.dial(DialId(0), known, addresses.clone());
        let up = event(&mut a).await;
        assert!(matches!(up, TransportEvent::LinkUp(_)), "{up:?}");
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test]
async fn whoever_accepts_and_is_silent_times_out() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let address = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let mut a = transport(&[]);
    a.dial(DialId(3), Some(PeerId::random()), vec![address]);
    match event(&mut a).await {
        TransportEvent::DialFailed { dial, reason } => {
            assert_eq!(
                (dial, reason.as_str()),
                (DialId(3), "it takes the connection and then says nothing")
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn by_default_everything_listens_on_one_port() {
    let config = Libp2pConfig::new(Keypair::generate_ed25519());
    let (peer, addresses) = serve(Libp2pTransport::new(&config).unwrap(), 2).await;
    let ports: BTreeSet<u16> = addresses
        .iter()
        .flat_map(|address| address.iter())
        .filter_map(|part| match part {
            Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
            _ => None,
        })
        .collect();
    assert_eq!(ports.len(), 1, "{addresses:?}");
    let loopback = |address: &Multiaddr| address.to_string().contains("/127.0.0.1/");
    let local: Vec<_> = addresses.into_iter().filter(loopback).collect();
    assert!(!local.is_empty());
    let mut a = transport(&[]);
    a.dial(DialId(0), Some(peer), local);
    let up = event(&mut a).await;
    assert!(matches!(up, TransportEvent::LinkUp(_)), "{up:?}");
}

#[tokio::test]
async fn a_second_process_does_not_share_a_port_by_accident() {
    let mut config = Libp2pConfig::new(Keypair::generate_ed25519());
    config.listen = Listen::Port(0);
    let first = Libp2pTransport::new(&config).unwrap();
    let (_, addresses) = serve(first, 1).await;
    let port = addresses[0].iter().find_map(|part| match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
        _ => None,
    });
    config.listen = Listen::Port(port.unwrap());
    match Libp2pTransport::new(&config) {
        Err(Libp2pError::Listen(error)) => {
            assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it listens on a taken port"),
    }
}

#[tokio::test]
async fn one_peer_can_have_so_many_connections_and_no_more() {
    let mut bounded = config(&[TCP]);
    bounded.bounds.per_peer = 2;
    let (peer, addresses) = serve(Libp2pTransport::new(&bounded).unwrap(), 1).await;
    let mut a = transport(&[]);
    let mut links = Vec::new();
    for dial in 0..3 {
        a.dial(DialId(dial), Some(peer), addresses.clone());
        match event(&mut a).await {
            TransportEvent::LinkUp(link) => links.push(link),
            TransportEvent::DialFailed { dial, reason } => {
                assert_eq!(dial, DialId(2), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(links.len(), 2);
}

#[tokio::test]
async fn a_dial_beyond_the_bound_fails_at_once() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let mut a = transport(&[]);
    let most = u64::try_from(handover_transports::MAX_DIALS).unwrap();
    for dial in 0..=most {
        a.dial(DialId(dial), None, vec![address.clone()]);
    }
    match event(&mut a).await {
        TransportEvent::DialFailed { dial, .. } => assert_eq!(dial, DialId(most)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn closing_an_unknown_link_is_nothing() {
    transport(&[]).close(LinkId(u64::MAX));
}

/// A stock libp2p peer: Noise and Yamux.
async fn stock<B: libp2p::swarm::NetworkBehaviour>(
    behaviour: impl FnOnce(&Keypair) -> B,
) -> (Swarm<B>, Multiaddr) {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .unwrap()
        .with_behaviour(behaviour)
        .unwrap()
        .build();
    swarm.listen_on(TCP.parse().unwrap()).unwrap();
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return (swarm, address);
        }
    }
}

#[tokio::test]
async fn a_peer_with_noise_and_stock_yamux_is_understood() {
    let (mut swarm, address) = stock(|_| link::Behaviour::default()).await;
    let peer = *swarm.local_peer_id();
    let sent: Vec<u8> = (0..3_000_000_u32)
        .map(|i| (i / 251).to_le_bytes()[0])
        .collect();
    let echo = tokio::spawn(async move {
        loop {
            let event = swarm.select_next_some().await;
            if let SwarmEvent::Behaviour(LinkEvent::Up { mut stream, .. }) = event {
                tokio::spawn(async move {
                    let mut got = Vec::new();
                    stream.read_to_end(&mut got).await.unwrap();
                    stream.write_all(&got).await.unwrap();
                    stream.close().await.unwrap();
                });
            }
        }
    });
    let mut a = transport(&[]);
    a.dial(DialId(0), Some(peer), vec![address]);
    let TransportEvent::LinkUp(mut link) = event(&mut a).await else {
        panic!("no link");
    };
    link.stream.write_all(&sent).await.unwrap();
    link.stream.close().await.unwrap();
    let mut got = Vec::new();
    link.stream.read_to_end(&mut got).await.unwrap();
    assert!(got == sent);
    echo.abort();
}

#[tokio::test]
async fn whoever_speaks_no_handover_is_a_failed_dial() {
    let (mut swarm, address) = stock(|key| {
        identify::Behaviour::new(identify::Config::new("/other/1".into(), key.public()))
    })
    .await;
    let peer = *swarm.local_peer_id();
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let mut a = transport(&[]);
    a.dial(DialId(1), Some(peer), vec![address]);
    match event(&mut a).await {
        TransportEvent::DialFailed { reason, .. } => {
            assert_eq!(reason, "the other side does not speak handover");
        }
        other => panic!("{other:?}"),
    }
}
