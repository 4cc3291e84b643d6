//! How to start each kind of node, and how to read its addresses and when it is ready.

use std::net::IpAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::{Software, Store};

/// Limits of a circuit, as go-libp2p's library has them by default. The defaults of go-libp2p-daemon are far larger.
const CIRCUIT_BYTES: &str = "131072";
const CIRCUIT_SECONDS: &str = "2m";
const CIRCUIT_BUFFER: &str = "2048";

/// A peer ID without a key, of the length of the IDs of RSA nodes.
const NOBODY: &str = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN";

/// How to start a node.
#[derive(Debug, Clone)]
pub struct Launch {
    software: Software,
    /// The program and its arguments. Empty if no program is run.
    program: Vec<String>,
    listen: Vec<String>,
}

impl Launch {
    /// Prepares a node that listens at this address, keeps its files in the empty folder `folder`, and bootstraps from
    /// the nodes `known`.
    pub fn new(
        software: Software,
        store: &Store,
        (ip, port): (IpAddr, u16),
        folder: &Path,
        known: &[String],
    ) -> Self {
        let listen = listen(software, ip, port);
        let program = match software {
            Software::Kubo => kubo(store, folder, &listen, known),
            Software::P2pd | Software::P2pdEcdsa => p2pd(software, store, folder, &listen, known),
            Software::JsRsa
            | Software::JsFull
            | Software::JsWebSocket
            | Software::Lying
            | Software::JsSecp256k1
            | Software::JsEd25519 => js(software, store, &listen, known),
            Software::Dead | Software::Hanging | Software::Rubbish | Software::Named => Vec::new(),
        };
        Self {
            software,
            program,
            listen,
        }
    }

    /// Returns the program and its arguments. Empty if the lab itself plays the node, or if nothing listens.
    pub fn program(&self) -> &[String] {
        &self.program
    }

    /// Returns a parser for the node's output.
    pub fn ready(&self) -> Ready {
        let nobody = self.listen.iter().map(|at| format!("{at}/p2p/{NOBODY}"));
        Ready {
            p2pd: matches!(self.software, Software::P2pd | Software::P2pdEcdsa),
            listen: self.listen.clone(),
            addresses: if self.program.is_empty() {
                nobody.collect()
            } else {
                Vec::new()
            },
            is_up: self.program.is_empty(),
        }
    }
}

/// What a starting node has reported so far.
#[derive(Debug, Clone)]
pub struct Ready {
    p2pd: bool,
    listen: Vec<String>,
    /// The addresses that it can be dialled at.
    pub addresses: Vec<String>,
    /// True once it has reported everything.
    pub is_up: bool,
}

impl Ready {
    /// Processes a line of its standard output.
    pub fn take(&mut self, line: &str) {
        if self.p2pd {
            if let Some(id) = line.trim().strip_prefix("Peer ID: ") {
                let listen = self.listen.iter();
                self.addresses = listen.map(|at| format!("{at}/p2p/{id}")).collect();
                self.is_up = true;
            }
            return;
        }
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            return;
        };
        match event["event"].as_str() {
            Some("node_address") => {
                let address = event["address"].as_str().map(str::to_owned);
                self.addresses.extend(address);
            }
            Some("ready") => self.is_up = true,
            _ => {}
        }
    }
}

fn listen(software: Software, ip: IpAddr, port: u16) -> Vec<String> {
    let ip = match ip {
        IpAddr::V4(ip) => format!("/ip4/{ip}"),
        IpAddr::V6(ip) => format!("/ip6/{ip}"),
    };
    if software == Software::Named {
        return vec![format!("/dns4/bootstrap.invalid/tcp/{port}")];
    }
    let tcp = format!("{ip}/tcp/{port}");
    let stands_in = matches!(
        software,
        Software::Dead | Software::Hanging | Software::Rubbish
    );
    if software.speaks_quic() || stands_in {
        return vec![tcp, format!("{ip}/udp/{port}/quic-v1")];
    }
    if software == Software::JsWebSocket {
        return vec![format!("{tcp}/ws")];
    }
    vec![tcp]
}

fn words(words: impl IntoIterator<Item = impl Into<String>>) -> Vec<String> {
    words.into_iter().map(Into::into).collect()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn kubo(store: &Store, folder: &Path, listen: &[String], known: &[String]) -> Vec<String> {
    let order = json!({
        "library": text(&store.kubo()),
        "repository": text(&folder.join("repository")),
        "listen": listen,
        "known": known,
    });
    let driver = store.file("kubo.py");
    words([text(store.python()), text(&driver), order.to_string()])
}

fn p2pd(
    software: Software,
    store: &Store,
    folder: &Path,
    listen: &[String],
    known: &[String],
) -> Vec<String> {
    let control = format!("/unix{}", text(&folder.join("p2pd.sock")));
    let mut program = words([text(&store.p2pd())]);
    program.extend(words([
        "-dhtServer",
        "-relay",
        "-relayService",
        "-forceReachabilityPublic",
        "-autonat",
    ]));
    program.extend(words(["-relayDataLimit", CIRCUIT_BYTES]));
    program.extend(words(["-relayTimeLimit", CIRCUIT_SECONDS]));
    program.extend(words(["-relayBufferSize", CIRCUIT_BUFFER]));
    program.extend(["-hostAddrs".to_owned(), listen.join(",")]);
    program.extend(["-listen".to_owned(), control]);
    if software == Software::P2pdEcdsa {
        program.extend(["-id".to_owned(), text(&store.ecdsa_key())]);
    }
    if !known.is_empty() {
        program.extend(["-b".to_owned(), "-bootstrapPeers".to_owned()]);
        program.push(known.join(","));
    }
    program
}

fn js(software: Software, store: &Store, listen: &[String], known: &[String]) -> Vec<String> {
    let identity = match software {
        Software::JsSecp256k1 => "secp256k1",
        Software::JsEd25519 => "ed25519",
        _ => "rsa",
    };
    let reservations = (software == Software::JsFull).then_some(0);
    let order = json!({
        "listen": listen,
        "identity": identity,
        "known": known,
        "reservations": reservations,
        "lies": software == Software::Lying,
    });
    let driver = store.file("node.mjs");
    words([text(store.node()), text(&driver), order.to_string()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(p2pd: bool) -> Ready {
        Ready {
            p2pd,
            listen: vec!["/ip4/11.0.0.11/tcp/4001".into()],
            addresses: Vec::new(),
            is_up: false,
        }
    }

    #[test]
    fn a_node_that_tells_json_is_up_when_it_says_so() {
        let mut ready = ready(false);
        ready.take("some word of a library");
        ready.take(r#"{"event":"node_address","address":"/ip4/1.2.3.4/tcp/1/p2p/Q"}"#);
        assert!(!ready.is_up);
        ready.take(r#"{"event":"ready"}"#);
        assert!(ready.is_up);
        assert_eq!(ready.addresses, ["/ip4/1.2.3.4/tcp/1/p2p/Q"]);
    }

    #[test]
    fn go_libp2p_daemon_tells_its_id_alone() {
        let mut ready = ready(true);
        ready.take("Control socket: /unix/tmp/p2pd.sock");
        assert!(!ready.is_up);
        ready.take("Peer ID: 12D3KooWx");
        assert!(ready.is_up);
        assert_eq!(ready.addresses, ["/ip4/11.0.0.11/tcp/4001/p2p/12D3KooWx"]);
    }
}
