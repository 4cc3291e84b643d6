//! The peer of `--to` and `--from`: one that is paired with this device and needs no code.

use handover::Config;
use handover::store::{PeerRecord, Store};
use handover_core::PeerId;
use handover_core::code::{ShareCode, Ticket};
use handover_core::engine::{DownloadError, ShareOptions, Short};
use handover_core::pair::PairSecret;
use handover_core::secret::{ShareCodeLabel, ShareSecret};

use super::data_dir::Claim;
use super::exit::Exit;
use super::failure::Failure;
use super::record::now;
use super::screen::peers;

/// A paired peer.
pub(crate) struct Known {
    pub(crate) peer: PeerId,
    /// Its name here: what it calls itself, or its id.
    pub(crate) name: String,
    /// The identity of this device that the peer is paired with.
    us: PeerId,
    secret: PairSecret,
}

impl Known {
    /// Finds the paired peer with this name or id.
    pub(crate) fn find(store: &Store, called: &str) -> Result<Self, Failure> {
        let all = read(store)?;
        let (paired, others): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|(_, record)| record.pair.is_some());
        if matching(&paired, called).is_empty() && !matching(&others, called).is_empty() {
            return Err(Failure::usage(
                format!("{called} was met here, but you have not agreed to remember each other"),
                "Hand something over with a code once more, with --remember on both sides.",
            ));
        }
        let (peer, record) = one(&paired, called)?;
        let pair = record.pair.clone();
        let pair = pair.ok_or_else(|| Failure::internal("there is no agreement"))?;
        Ok(Self {
            peer: *peer,
            name: called_here(*peer, record),
            us: pair.us,
            secret: pair.secret,
        })
    }

    /// Fails unless this process uses the identity that the peer is paired with.
    pub(crate) fn check(&self, us: PeerId, identity: &Claim) -> Result<(), Failure> {
        check_own(identity, &self.name)?;
        if us != self.us {
            return Err(Failure::usage(
                format!(
                    "{} knows this computer by another identity than it has now",
                    self.name
                ),
                "Hand something over with a code once more, with --remember on both sides.",
            ));
        }
        Ok(())
    }

    /// The secret of shares for this peer.
    pub(crate) fn shared_with(&self) -> ShareSecret {
        self.secret.shared_by(&self.us)
    }

    /// Restricts a share to this peer. It ends after one download unless `options` allow more.
    pub(crate) fn only(&self, options: &mut ShareOptions) {
        options.only = Some(self.peer);
        options.short = Short::None;
        options.uses = options.uses.or(Some(1));
    }

    /// The ticket that this peer would issue for its share, without addresses.
    pub(crate) fn code(&self) -> ShareCode {
        let secret = self.secret.shared_by(&self.peer);
        ShareCode::Ticket(Ticket {
            peer: self.peer,
            addresses: Vec::new(),
            share_code: ShareCodeLabel::of(&secret),
            secret,
        })
    }

    /// Explains failures that have other reasons without a code. `us` is this device's name. `None` for other failures.
    pub(crate) fn failure(&self, error: &DownloadError, us: &str) -> Option<Failure> {
        let name = &self.name;
        let ask = format!("Ask them to run: handover send … --to {us}");
        match error {
            DownloadError::Unreachable(reason) => Some(Failure::new(
                Exit::Unreachable,
                format!("{name} has nothing for you right now, or can't be reached: {reason}"),
                format!("{ask}\n`handover doctor` on both sides tells what the networks allow."),
            )),
            DownloadError::NoSuchShare | DownloadError::Withdrawn => Some(Failure::new(
                Exit::Peer,
                format!("{name} has nothing for you right now"),
                format!(
                    "{ask}\nIf they do, they may not know this computer any more: then hand something over with a code,\n\
                     with --remember on both sides."
                ),
            )),
            _ => None,
        }
    }
}

/// Fails if this process uses a temporary identity, by which no paired peer can recognise it.
pub(crate) fn check_own(identity: &Claim, who: &str) -> Result<(), Failure> {
    if identity.is_borrowed() {
        return Err(Failure::usage(
            format!(
                "another handover runs here, and has the identity that {who} is to know this computer by"
            ),
            "End that one first, or do without --to, --from and --remember.",
        ));
    }
    Ok(())
}

/// Without a code, no address is passed on, so the peers need the DHT or the local network to find each other.
pub(crate) fn can_meet(config: &Config) -> Result<(), Failure> {
    if config.has_short_codes() {
        return Ok(());
    }
    Err(Failure::usage(
        "who needs no code is found in the DHT and on the local network, and both are left out here",
        "Leave --no-dht, --no-mdns and --loopback away (or name a --bootstrap), or use a code.",
    ))
}

/// The name of a peer here: what it calls itself, or its id.
pub(crate) fn called_here(peer: PeerId, record: &PeerRecord) -> String {
    match record.name() {
        "" => peer.to_string(),
        name => name.to_string(),
    }
}

/// Returns all known peers.
pub(crate) fn read(store: &Store) -> Result<Vec<(PeerId, PeerRecord)>, Failure> {
    store.peers().map_err(Failure::of_store)
}

/// Returns the one peer with this name or id.
pub(crate) fn one<'a>(
    all: &'a [(PeerId, PeerRecord)],
    called: &str,
) -> Result<&'a (PeerId, PeerRecord), Failure> {
    match matching(all, called)[..] {
        [one] => Ok(one),
        [] => Err(Failure::usage(
            format!("nobody is known here by the name or id {called}"),
            "`handover peers` tells who is. Whom you have run `send` and `get` with, with --remember on both sides, needs no\n\
             code.",
        )),
        ref several => Err(Failure::usage(
            format!("{} peers are called {called}", several.len()),
            format!("Name one by its id:\n{}", peers::ids(several, now())),
        )),
    }
}

/// Returns the peers with this id, or with this name among those that they have used.
fn matching<'a>(all: &'a [(PeerId, PeerRecord)], called: &str) -> Vec<&'a (PeerId, PeerRecord)> {
    let called = called.trim();
    if let Ok(peer) = called.parse::<PeerId>() {
        return all.iter().filter(|(known, _)| *known == peer).collect();
    }
    let folded = called.to_lowercase();
    let is_called = |record: &PeerRecord| {
        let mut names = record.names.iter();
        names.any(|name| name.to_lowercase() == folded)
    };
    all.iter().filter(|(_, record)| is_called(record)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(seed: u8) -> PeerId {
        let keys = handover_core::Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        keys.public().to_peer_id()
    }

    fn met(seed: u8, names: &[&str]) -> (PeerId, PeerRecord) {
        let record = PeerRecord {
            names: names.iter().map(ToString::to_string).collect(),
            last_met: now(),
            ..PeerRecord::default()
        };
        (peer(seed), record)
    }

    #[test]
    fn a_peer_is_named_by_any_of_its_names_or_its_id() {
        let all = [met(1, &["Laptop", "old"]), met(2, &["phone"]), met(3, &[])];
        for called in ["laptop", " LAPTOP ", "old", &peer(1).to_string()] {
            assert_eq!(one(&all, called).unwrap().0, peer(1), "{called}");
        }
        assert_eq!(one(&all, &peer(3).to_string()).unwrap().0, peer(3));
        for called in ["", "lap", &peer(4).to_string()] {
            assert_eq!(one(&all, called).unwrap_err().exit, Exit::Usage);
        }
    }

    #[test]
    fn of_two_with_one_name_neither_is_taken() {
        let all = [met(1, &["laptop"]), met(2, &["other", "laptop"])];
        let failure = one(&all, "laptop").unwrap_err();
        insta::assert_snapshot!(format!("{}\n{}", failure.what, failure.advice));
        assert_eq!(one(&all, "other").unwrap().0, peer(2));
    }

    #[test]
    fn what_stands_in_the_way_is_told_apart() {
        let known = Known {
            peer: peer(1),
            name: "laptop".to_string(),
            us: peer(2),
            secret: PairSecret::from_bytes([7; 32]),
        };
        let told = |error| {
            let failure = known.failure(&error, "desk").unwrap();
            format!(
                "[{}] {}\n{}",
                failure.exit.code(),
                failure.what,
                failure.advice
            )
        };
        let texts = [
            told(DownloadError::Unreachable("no answer".to_string())),
            told(DownloadError::NoSuchShare),
        ];
        insta::assert_snapshot!(texts.join("\n"));
        assert_eq!(known.failure(&DownloadError::OtherFiles, "desk"), None);
        // The secret of their shares for us differs from that of our shares for them.
        let ShareCode::Ticket(ticket) = known.code() else {
            panic!("no ticket");
        };
        assert_ne!(ticket.secret, known.shared_with());
    }
}
