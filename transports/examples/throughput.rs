//! Raw bytes over one link on loopback, no protocol above it: the ceiling of everything else.
//!
//! `cargo run --release -p handover-transports --example throughput [MiB]`

#![allow(clippy::print_stdout, clippy::cast_precision_loss)]

use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt};
use handover_core::engine::DialId;
use handover_core::{Keypair, Multiaddr};
use handover_transports::libp2p::{Libp2pConfig, Libp2pTransport, Listen};
use handover_transports::{Link, Transport, TransportEvent, next_event};

fn main() {
    let mib: usize = std::env::args()
        .nth(1)
        .and_then(|arg| arg.parse().ok())
        .unwrap_or(2048);
    for (name, listen, tcp) in [
        ("TCP", "/ip4/127.0.0.1/tcp/0", true),
        ("QUIC", "/ip4/127.0.0.1/udp/0/quic-v1", false),
    ] {
        let listen: Multiaddr = listen.parse().expect("an address");
        let at = Listen::At(vec![listen]);
        let (address, peer) = serve(at, tcp);
        let runtime = runtime();
        let (connect, took) = runtime.block_on(fetch(&address, peer, tcp, mib << 20));
        let rate = (mib << 20) as f64 / took.as_secs_f64() / 1e9;
        println!("{name}: link up in {connect:.1?}, {rate:.2} GB/s");
    }
    println!("CPU: {:.2} s in all", cpu_seconds());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn transport(listen: Listen, tcp: bool) -> Libp2pTransport {
    let mut config = Libp2pConfig::new(Keypair::generate_ed25519());
    config.listen = listen;
    config.tcp = tcp;
    config.quic = !tcp;
    Libp2pTransport::new(&config).expect("a transport")
}

/// A thread of its own that sends as many bytes as it is asked for.
fn serve(listen: Listen, tcp: bool) -> (Multiaddr, handover_core::PeerId) {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let mut transport = transport(listen, tcp);
            let peer = transport.local_peer();
            while let Some(event) = next_event(&mut transport).await {
                match event {
                    TransportEvent::Listening(addresses) => {
                        let _ = tell.send((addresses[0].clone(), peer));
                    }
                    TransportEvent::LinkUp(link) => {
                        tokio::spawn(send(link));
                    }
                    _ => {}
                }
            }
        });
    });
    told.recv().expect("an address")
}

async fn send(mut link: Link) {
    let mut asked = [0; 8];
    link.stream.read_exact(&mut asked).await.expect("a request");
    let mut left = usize::try_from(u64::from_be_bytes(asked)).expect("a size");
    let chunk = vec![7; 256 << 10];
    while left > 0 {
        let part = left.min(chunk.len());
        link.stream.write_all(&chunk[..part]).await.expect("room");
        left -= part;
    }
    link.stream.close().await.expect("an end");
}

async fn fetch(
    address: &Multiaddr,
    peer: handover_core::PeerId,
    tcp: bool,
    bytes: usize,
) -> (Duration, Duration) {
    let mut transport = transport(Listen::Nowhere, tcp);
    let began = Instant::now();
    transport.dial(DialId(0), Some(peer), vec![address.clone()]);
    let link = loop {
        match next_event(&mut transport).await {
            Some(TransportEvent::LinkUp(link)) => break link,
            Some(TransportEvent::Listening(_)) => {}
            other => panic!("no link: {other:?}"),
        }
    };
    let connect = began.elapsed();
    let began = Instant::now();
    tokio::select! {
        () = receive(link, bytes) => {}
        () = async { while next_event(&mut transport).await.is_some() {} } => {}
    }
    let took = began.elapsed();
    transport.shutdown();
    while next_event(&mut transport).await.is_some() {}
    (connect, took)
}

async fn receive(mut link: Link, bytes: usize) {
    let asked = (bytes as u64).to_be_bytes();
    link.stream.write_all(&asked).await.expect("room");
    link.stream.flush().await.expect("room");
    let mut buffer = vec![0; 256 << 10];
    let mut got = 0;
    loop {
        match link.stream.read(&mut buffer).await.expect("bytes") {
            0 => break,
            n => got += n,
        }
    }
    assert_eq!(got, bytes);
}

/// User and system time of this process so far, where /proc tells it.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(')').next().unwrap_or_default();
    let ticks = ticks.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}
