//! The counters of a node for Prometheus, in its text format over a minimal HTTP server.

use std::collections::VecDeque;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use handover_transports::libp2p::NetworkState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::failure::Failure;

/// Maximum number of bytes read of a request. Requests for counters are shorter.
const MOST_ASKED: usize = 4096;
/// Timeout for reading a request, and for writing the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause after a failed accept, for example for lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(200);
/// Maximum number of requests read at once. A further one replaces the oldest.
const AT_ONCE: usize = 32;

/// HTTP endpoint for the counters.
pub(crate) struct Endpoint {
    listener: TcpListener,
    /// Tasks that read requests, the oldest first. Finished ones are removed when the next connection arrives.
    reading: VecDeque<AbortHandle>,
    tell: mpsc::Sender<Request>,
    told: mpsc::Receiver<Request>,
}

/// A request that has been read.
pub(crate) struct Request {
    socket: TcpStream,
    wants: Wants,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    Counters,
    /// A page that does not exist.
    Else,
    /// A request of a foreign web page, through a browser in which the page's name resolves to this machine.
    ByAnotherName,
}

impl Endpoint {
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|error| {
            Failure::usage(
                format!("can't serve metrics at {address}: {error}"),
                "Choose another address with --metrics.",
            )
        })?;
        let (tell, told) = mpsc::channel(AT_ONCE);
        Ok(Self {
            listener,
            reading: VecDeque::new(),
            tell,
            told,
        })
    }

    /// Returns the next complete request. Requests are read in separate tasks, so dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Request {
        loop {
            tokio::select! {
                // `self` holds a sender, so the channel stays open.
                Some(request) = self.told.recv() => return request,
                accepted = self.listener.accept() => match accepted {
                    Ok((socket, _)) => self.read(socket),
                    Err(_) => sleep(PAUSE).await,
                },
            }
        }
    }

    fn read(&mut self, socket: TcpStream) {
        self.reading.retain(|task| !task.is_finished());
        if self.reading.len() >= AT_ONCE
            && let Some(oldest) = self.reading.pop_front()
        {
            oldest.abort();
        }
        let tell = self.tell.clone();
        let task = tokio::spawn(timeout(PATIENCE, async move {
            if let Some(request) = read(socket).await {
                let _ = tell.send(request).await;
            }
        }));
        self.reading.push_back(task.abort_handle());
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        for task in &self.reading {
            task.abort();
        }
    }
}

/// Reads a request up to the end of its header. `None` if it is too long or incomplete.
async fn read(mut socket: TcpStream) -> Option<Request> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= MOST_ASKED || socket.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let wants = wants(&String::from_utf8_lossy(&head));
    Some(Request { socket, wants })
}

fn wants(head: &str) -> Wants {
    let mut lines = head.lines();
    let is_ours = lines
        .next()
        .is_some_and(|line| line.starts_with("GET /metrics "));
    let mut hosts = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then_some(value.trim())
    });
    if hosts.any(|host| !is_this_machine(host)) {
        Wants::ByAnotherName
    } else if is_ours {
        Wants::Counters
    } else {
        Wants::Else
    }
}

/// True if the request names this machine by an address or as localhost. Any other name may be that of a web page whose
/// name server points to this machine.
fn is_this_machine(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
        if is_port { name } else { host }
    });
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok()
        || host.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
}

impl Request {
    /// Answers in a separate task, so that a slow reader delays nobody.
    pub(crate) fn answer(self, counters: &str) {
        let Self { mut socket, wants } = self;
        let (status, body) = match wants {
            Wants::Counters => ("200 OK", counters),
            Wants::Else => ("404 Not Found", "There is only /metrics here.\n"),
            Wants::ByAnotherName => (
                "421 Misdirected Request",
                "Ask by this machine's address, or as localhost.\n",
            ),
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

/// The counters of a node in Prometheus's text format.
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    async fn endpoint() -> (Endpoint, SocketAddr) {
        let any = "127.0.0.1:0".parse().unwrap();
        let endpoint = Endpoint::bind(any)
            .await
            .unwrap_or_else(|_| panic!("a port"));
        let at = endpoint.listener.local_addr().unwrap();
        (endpoint, at)
    }

    async fn answered(mut socket: TcpStream) -> String {
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_request_in_two_pieces_is_answered_although_others_were_waited_for_between() {
        let (mut endpoint, at) = endpoint().await;
        let mut socket = TcpStream::connect(at).await.unwrap();
        for piece in ["GET /metr", "ics HTTP/1.1\r\n\r\n"] {
            socket.write_all(piece.as_bytes()).await.unwrap();
            if piece.starts_with("GET") {
                // Like a `select!` in which another branch is ready first.
                let waited = timeout(Duration::from_millis(50), endpoint.next()).await;
                assert!(waited.is_err());
            }
        }
        endpoint.next().await.answer("counters");
        assert!(answered(socket).await.ends_with("counters"));
    }

    #[tokio::test]
    async fn whoever_connects_and_is_silent_keeps_nobody_out() {
        let (mut endpoint, at) = endpoint().await;
        let mut silent = Vec::new();
        let mut asking = None;
        let connect = async {
            for _ in 0..2 * AT_ONCE {
                silent.push(TcpStream::connect(at).await.unwrap());
            }
            let mut socket = TcpStream::connect(at).await.unwrap();
            socket
                .write_all(b"GET /metrics HTTP/1.1\r\n\r\n")
                .await
                .unwrap();
            asking = Some(socket);
            std::future::pending::<()>().await;
        };
        let request = tokio::select! {
            () = connect => unreachable!(),
            request = endpoint.next() => request,
        };
        assert!(endpoint.reading.len() <= AT_ONCE);
        request.answer("counters");
        assert!(answered(asking.unwrap()).await.ends_with("counters"));
    }

    #[test]
    fn a_page_whose_name_leads_here_is_not_answered() {
        let asked = |host: &str| wants(&format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        for host in [
            "127.0.0.1:9100",
            "localhost",
            "LocalHost:80",
            "[::1]:9100",
            "10.0.0.7",
            "::1",
        ] {
            assert_eq!(asked(host), Wants::Counters, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9100",
            "127.0.0.1.evil.example",
            "localhost.evil.example:1",
        ] {
            assert_eq!(asked(host), Wants::ByAnotherName, "{host}");
        }
        assert_eq!(wants("GET / HTTP/1.1\r\n\r\n"), Wants::Else);
        assert_eq!(wants("GET /metrics HTTP/1.0\r\n\r\n"), Wants::Counters);
    }
}
