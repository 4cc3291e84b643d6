//! Whom `--to` and `--from` mean: a peer that this device and its user have agreed with to be known without a code.

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

/// A peer that needs no code.
pub(crate) struct Known {
    pub(crate) peer: PeerId,
    /// What it is called here: what it calls itself, or its id.
    pub(crate) name: String,
    /// Which identity of this device it knows.
    us: PeerId,
    secret: PairSecret,
}

impl Known {
    /// Whoever is called so, and has agreed.
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

    /// Whether this process is who the peer knows.
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

    /// The secret of what is shared with it.
    pub(crate) fn shared_with(&self) -> ShareSecret {
        self.secret.shared_by(&self.us)
    }

    /// A share for it alone. It ends when it has it, unless more is asked for.
    pub(crate) fn only(&self, options: &mut ShareOptions) {
        options.only = Some(self.peer);
        options.short = Short::None;
        options.uses = options.uses.or(Some(1));
    }

    /// The code that it would give, if one were needed.
    pub(crate) fn code(&self) -> ShareCode {
        let secret = self.secret.shared_by(&self.peer);
        ShareCode::Ticket(Ticket {
            peer: self.peer,
            addresses: Vec::new(),
            share_code: ShareCodeLabel::of(&secret),
            secret,
        })
    }

    /// Why nothing came of it, where that is for a reason that a code would not have. `us` is this device's name.
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

/// Who has another identity than usual can't be known by it.
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

/// Without a code nobody is told any address: there must be another way to find each other.
pub(crate) fn can_meet(config: &Config) -> Result<(), Failure> {
    if config.has_short_codes() {
        return Ok(());
    }
    Err(Failure::usage(
        "who needs no code is found in the DHT and on the local network, and both are left out here",
        "Leave --no-dht, --no-mdns and --loopback away (or name a --bootstrap), or use a code.",
    ))
}

/// What a peer is called here.
pub(crate) fn called_here(peer: PeerId, record: &PeerRecord) -> String {
    match record.name() {
        "" => peer.to_string(),
        name => name.to_string(),
    }
}

/// All that is known.
pub(crate) fn read(store: &Store) -> Result<Vec<(PeerId, PeerRecord)>, Failure> {
    store.peers().map_err(Failure::of_store)
}

/// The one who is meant by a name or an id.
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

/// Who is called so: by id, or by any name that they gave themselves.
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
        // What they share with us is another thing than what we share with them.
        let ShareCode::Ticket(ticket) = known.code() else {
            panic!("no ticket");
        };
        assert_ne!(ticket.secret, known.shared_with());
    }
}
