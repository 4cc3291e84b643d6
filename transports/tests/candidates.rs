//! Tests of observed addresses between swarms of libp2p-swarm-test.

use futures::future::{Either, select};
use handover_core::Multiaddr;
use handover_transports::libp2p::candidates::Behaviour;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, Swarm, SwarmEvent};
use libp2p_swarm_test::SwarmExt;

/// The observed address, as mapped by a router.
fn seen() -> Multiaddr {
    "/ip4/198.51.100.7/tcp/50123".parse().unwrap()
}

async fn swarm() -> Swarm<Behaviour> {
    let mut swarm = Swarm::new_ephemeral_tokio(|_| Behaviour::default());
    swarm.listen().with_memory_addr_external().await;
    swarm
}

/// Connects two swarms and returns the connection id at each end.
async fn connect(
    from: &mut Swarm<Behaviour>,
    to: &mut Swarm<Behaviour>,
    new_port: bool,
) -> (ConnectionId, ConnectionId) {
    let at = to.external_addresses().next().unwrap().clone();
    let opts = DialOpts::unknown_peer_id().address(at);
    let opts = if new_port {
        opts.allocate_new_port().build()
    } else {
        opts.build()
    };
    from.dial(opts).unwrap();
    let (mut here, mut there) = (None, None);
    while here.is_none() || there.is_none() {
        let next = select(
            Box::pin(from.next_swarm_event()),
            Box::pin(to.next_swarm_event()),
        );
        let (event, end) = match next.await {
            Either::Left((event, _)) => (event, &mut here),
            Either::Right((event, _)) => (event, &mut there),
        };
        if let SwarmEvent::ConnectionEstablished { connection_id, .. } = event {
            *end = Some(connection_id);
        }
    }
    (here.unwrap(), there.unwrap())
}

/// Connects `swarm` once more and returns the candidates reported up to that connection.
async fn candidates(swarm: &mut Swarm<Behaviour>) -> Vec<Multiaddr> {
    let mut mark = self::swarm().await;
    let at = mark.external_addresses().next().unwrap().clone();
    swarm.dial(at).unwrap();
    let mut candidates = Vec::new();
    loop {
        let next = select(
            Box::pin(swarm.next_swarm_event()),
            Box::pin(mark.next_swarm_event()),
        );
        match next.await {
            Either::Left((SwarmEvent::NewExternalAddrCandidate { address }, _)) => {
                candidates.push(address);
            }
            Either::Left((SwarmEvent::ConnectionEstablished { .. }, _)) => return candidates,
            _ => {}
        }
    }
}

#[tokio::test]
async fn what_is_seen_of_a_connection_from_the_listening_port_is_told_as_it_is_and_once() {
    let (mut here, mut there) = (swarm().await, swarm().await);
    let (dialled, _) = connect(&mut here, &mut there, false).await;
    let named = seen().with(Protocol::P2p(*here.local_peer_id()));
    here.behaviour_mut().observed(dialled, &named);
    here.behaviour_mut().observed(dialled, &seen());
    assert_eq!(candidates(&mut here).await, [seen()]);
}

#[tokio::test]
async fn what_is_seen_of_other_connections_is_not_told() {
    let (mut here, mut there) = (swarm().await, swarm().await);
    let (new_port, _) = connect(&mut here, &mut there, true).await;
    here.behaviour_mut().observed(new_port, &seen());
    let (_, inbound) = connect(&mut there, &mut here, false).await;
    here.behaviour_mut().observed(inbound, &seen());
    assert!(candidates(&mut here).await.is_empty());
}

#[tokio::test]
async fn what_is_seen_through_a_relay_is_not_told() {
    let (mut here, mut there) = (swarm().await, swarm().await);
    let (dialled, _) = connect(&mut here, &mut there, false).await;
    let circuit = seen()
        .with(Protocol::P2p(*there.local_peer_id()))
        .with(Protocol::P2pCircuit);
    here.behaviour_mut().observed(dialled, &circuit);
    assert!(candidates(&mut here).await.is_empty());
}
