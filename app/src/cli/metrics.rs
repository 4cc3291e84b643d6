//! The counters of a node, for Prometheus: its text format over HTTP, and nothing else of HTTP.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use handover_transports::libp2p::NetworkState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::failure::Failure;

/// Bytes of a request that are read; what asks for counters is shorter.
const MOST_ASKED: usize = 4096;
/// How long somebody may take over asking, or over reading the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause after a failure to accept, such as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Where counters are read.
pub(crate) struct Endpoint(TcpListener);

/// Somebody who has asked.
pub(crate) struct Asked {
    socket: TcpStream,
    found: bool,
}

impl Endpoint {
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let bound = TcpListener::bind(address).await;
        bound.map(Self).map_err(|error| {
            Failure::usage(
                format!("can't serve metrics at {address}: {error}"),
                "Choose another address with --metrics.",
            )
        })
    }

    /// The next who asks. One at a time: whoever reads counters has patience.
    pub(crate) async fn next(&self) -> Asked {
        loop {
            match self.0.accept().await {
                Ok((socket, _)) => {
                    if let Ok(Some(asked)) = timeout(PATIENCE, read(socket)).await {
                        return asked;
                    }
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }
}

/// Reads a request to the end of its head. `None` if it is none.
async fn read(mut socket: TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= MOST_ASKED || socket.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let found = head.starts_with(b"GET /metrics ");
    Some(Asked { socket, found })
}

impl Asked {
    /// Answers in a task of its own, so that a slow reader holds nobody up.
    pub(crate) fn answer(self, counters: &str) {
        let Self { mut socket, found } = self;
        let (status, body) = if found {
            ("200 OK", counters)
        } else {
            ("404 Not Found", "There is only /metrics here.\n")
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        tokio::spawn(timeout(PATIENCE, async move {
            let _ = socket.write_all(answer.as_bytes()).await;
            let _ = socket.shutdown().await;
        }));
    }
}

/// What a node knows of itself, in Prometheus's text format.
pub(crate) fn text(network: &NetworkState) -> String {
    let served = &network.served;
    let connections = &network.connections;
    let mut text = String::new();
    let mut counter = |name: &str, kind: &str, help: &str, values: &[(&str, u64)]| {
        let _ = writeln!(
            text,
            "# HELP handover_{name} {help}\n# TYPE handover_{name} {kind}"
        );
        for (labels, value) in values {
            let _ = writeln!(text, "handover_{name}{labels} {value}");
        }
    };
    counter(
        "dht_nodes",
        "gauge",
        "Nodes in the routing table.",
        &[("", network.dht_nodes as u64)],
    );
    counter(
        "dht_keys",
        "gauge",
        "Keys kept for others.",
        &[("", served.dht_keys as u64)],
    );
    counter(
        "bootstrap_connected",
        "gauge",
        "Bootstrap nodes that it is connected to.",
        &[("", network.bootstrap_connected as u64)],
    );
    counter(
        "relay_reservations",
        "gauge",
        "Peers that are reachable through this one.",
        &[("", served.reservations as u64)],
    );
    counter(
        "relay_circuits",
        "gauge",
        "Circuits now.",
        &[("", served.circuits as u64)],
    );
    counter(
        "relay_circuits_total",
        "counter",
        "Circuits so far.",
        &[("", served.circuits_total)],
    );
    counter(
        "connections",
        "gauge",
        "Connections by the way they go.",
        &[
            ("{path=\"loopback\"}", connections.loopback as u64),
            ("{path=\"lan\"}", connections.lan as u64),
            ("{path=\"direct\"}", connections.direct as u64),
            ("{path=\"relayed\"}", connections.relayed as u64),
        ],
    );
    text
}
