//! `handover doctor`: finds out what the network allows by doing what a sharer does.

mod clock;
mod judge;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use handover_core::PeerId;
use handover_core::engine::LookUpId;
use handover_core::secret::MeetingPoint;
use handover_transports::libp2p::{Libp2pConfig, Libp2pTransport, NetworkState, Reachable};
use handover_transports::{Transport, TransportEvent, identity, next_event};
use tokio::time::{MissedTickBehavior, interval, sleep};

pub(crate) use self::clock::Clock;
pub(crate) use self::judge::{
    Dht, Diagnosis, Mapping, Names, Nat, Obstacle, Outlook, Presence, Reach, Tcp, Udp,
};
use self::judge::{Facts, LookedUp, is_settled, judge, untried_over_udp};
use super::args::{Doctor, Global};
use super::exit::Exit;
use super::failure::Failure;
use super::interrupt::Interrupts;
use super::screen::{Screen, Tone, doctor as words};
use super::{data_dir, json, shut_down};

/// Interval between checks for changes of the network state.
const LOOK: Duration = Duration::from_millis(200);
/// Maximum number of nodes dialled to test UDP.
const ASKED: usize = 3;
/// Id of the only lookup.
const LOOKUP: LookUpId = LookUpId(1);

/// Looks until everything is known or the time is up, and prints the findings.
pub(crate) async fn run(
    args: &Doctor,
    global: &Global,
    screen: &Screen,
    interrupts: &mut Interrupts,
) -> Result<Exit, Failure> {
    let mut config = super::config(&args.network, global)?;
    let _identity = data_dir::claim(&mut config.data_dir)?;
    let keypair = identity::load_or_create(&config.data_dir).map_err(Failure::internal)?;
    let network = config.network(keypair);
    let mut transport =
        Libp2pTransport::new(&network).map_err(|error| Failure::usage(error.to_string(), ""))?;
    screen.say(Tone::Plain, &words::looking(args.wait));
    let mut looking = Looking {
        facts: Facts {
            dht: network.dht,
            relayed_only: config.relayed_only(),
            asks: asks(&network),
            clock: clock::read(&config.data_dir),
            looked_up: None,
        },
        began: Instant::now(),
        asked: BTreeSet::new(),
    };
    let point = random()?;
    transport.announce(point);
    transport.look_up(LOOKUP, random()?);
    let found = tokio::select! {
        found = looking.look(&mut transport, args.wait) => Some(found?),
        () = interrupts.next() => None,
    };
    transport.withdraw(point);
    shut_down(&mut transport).await;
    let Some(found) = found else {
        return Ok(Exit::Interrupted);
    };
    screen.event(&json::doctor(&found));
    for (tone, text) in words::findings(&found, global.verbose > 0) {
        screen.need(tone, &text);
    }
    screen.need(Tone::Strong, words::summary(found.expect));
    // Without an answer from the DHT, codes cannot be found from other networks.
    Ok(match found.dht {
        Dht::Answers(_) => Exit::Done,
        Dht::Off | Dht::Late | Dht::Silent | Dht::Hangs => Exit::Unreachable,
    })
}

fn asks(network: &Libp2pConfig) -> bool {
    network.reachable == Reachable::Ask
}

/// A random rendezvous point, which no other peer uses, so that the announcement concerns nobody.
fn random() -> Result<MeetingPoint, Failure> {
    let mut point = [0; 32];
    getrandom::fill(&mut point).map_err(Failure::internal)?;
    Ok(MeetingPoint(point))
}

/// State of the examination.
struct Looking {
    facts: Facts,
    began: Instant,
    /// Nodes that were dialled over UDP.
    asked: BTreeSet<PeerId>,
}

impl Looking {
    async fn look(
        &mut self,
        transport: &mut Libp2pTransport,
        most: Duration,
    ) -> Result<Diagnosis, Failure> {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut end = std::pin::pin!(sleep(most));
        loop {
            tokio::select! {
                () = &mut end => return Ok(judge(&transport.network(), &self.facts)),
                event = next_event(transport) => {
                    let event = event.ok_or_else(|| Failure::internal("the network ended unexpectedly"))?;
                    self.heard(&event);
                }
                _ = looks.tick() => {
                    let network = transport.network();
                    let found = judge(&network, &self.facts);
                    if is_settled(&found) {
                        return Ok(found);
                    }
                    self.ask_over_udp(transport, &network);
                }
            }
        }
    }

    /// Dials nodes over UDP that were reached by TCP and also speak QUIC. They show whether UDP gets out.
    fn ask_over_udp(&mut self, transport: &mut Libp2pTransport, network: &NetworkState) {
        for (peer, addresses) in untried_over_udp(network) {
            if self.asked.len() < ASKED && self.asked.insert(peer) {
                transport.reach(peer, addresses);
            }
        }
    }

    fn heard(&mut self, event: &TransportEvent) {
        if let TransportEvent::LookedUp { reached, .. } = event {
            self.facts.looked_up = Some(LookedUp {
                reached: *reached,
                took: self.began.elapsed(),
            });
        }
    }
}
