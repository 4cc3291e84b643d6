//! Every NAT proves itself before it is used: a probe runs on the host behind it, and what it finds is held against what
//! the place claims.

use std::time::Duration;

use crate::ground::{Ground, GroundError, LAB, PROBE_PORTS, PROBED_V4, PROBED_V6};
use crate::nat::{Kind, chained};
use crate::probe::{self, Findings};

/// How long an answer that may not come is waited for; longer than the longest way there and back.
const PATIENCE: Duration = Duration::from_millis(900);
/// How often a probe that finds nothing, or another thing than was claimed, may look again: the machine may have been too
/// busy to answer, while no NAT is what it claims by chance.
const TRIES: u32 = 3;

/// What a host was found to be behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proof {
    /// Over IPv4, if the host has it.
    pub v4: Option<Findings>,
    /// Over IPv6.
    pub v6: Option<Findings>,
}

/// Why a NAT is not believed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is another one than it claims to be.
    #[error("the place of \"{host}\" is not what it claims to be: {difference}")]
    Different {
        /// The host behind it.
        host: String,
        /// What differs.
        difference: String,
    },
    /// The probe failed.
    #[error("the probe of \"{host}\" failed: {reason}")]
    Probe {
        /// The host that it ran on.
        host: String,
        /// Why.
        reason: String,
    },
    /// The ground did.
    #[error(transparent)]
    Ground(#[from] GroundError),
}

/// Probes what a host is behind, and holds it against what its gateways claim.
///
/// # Errors
///
/// It is something else, or the probe fails.
pub async fn verify(ground: &Ground, host: &str) -> Result<Proof, VerifyError> {
    let topology = ground.topology();
    let Some(spec) = topology.hosts.get(host) else {
        let reason = format!("there is no host \"{host}\"");
        return Err(GroundError::Topology(reason).into());
    };
    let chain = match &spec.behind {
        Some(behind) => topology.chain_of(behind).map_err(GroundError::Topology)?,
        None => Vec::new(),
    };
    let gateways = chain.iter().map(|name| &topology.gateways[name]);
    let gateways: Vec<(Kind, bool)> = gateways.map(|it| (it.nat, it.hairpin)).collect();
    let mut proof = Proof::default();
    if spec.ipv4 {
        let claims = gateways.iter().map(|(kind, hairpin)| kind.claims(*hairpin));
        let claim = through(claims, Kind::Pub.claims(false));
        proof.v4 = Some(prove(ground, host, false, claim).await?);
    }
    if spec.ipv6 {
        let claims = gateways.iter().map(|(kind, _)| kind.claims_v6());
        let claim = through(claims, Kind::Pub.claims_v6());
        proof.v6 = Some(prove(ground, host, true, claim).await?);
    }
    Ok(proof)
}

/// What a host behind all of these has to find; the first is its own gateway.
fn through(claims: impl Iterator<Item = Findings>, open: Findings) -> Findings {
    let chained = claims.reduce(|inner, outer| chained(&inner, &outer));
    chained.unwrap_or(open)
}

async fn prove(
    ground: &Ground,
    host: &str,
    ipv6: bool,
    claim: Findings,
) -> Result<Findings, VerifyError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let found = match measure(ground, host, ipv6).await {
            // A network that was made a moment ago may not answer yet.
            Err(VerifyError::Probe { .. }) if tries < TRIES => continue,
            found => found?,
        };
        match probe::judge(&claim, &found) {
            Ok(()) => return Ok(found),
            Err(_) if tries < TRIES => {}
            Err(difference) => {
                let host = host.to_owned();
                let difference = difference.join("; ");
                return Err(VerifyError::Different { host, difference });
            }
        }
    }
}

/// What the probe on a host finds.
///
/// # Errors
///
/// It fails, or takes far too long.
pub async fn measure(ground: &Ground, host: &str, ipv6: bool) -> Result<Findings, VerifyError> {
    let failed = |reason: String| VerifyError::Probe {
        host: host.to_owned(),
        reason,
    };
    let [a, b] = if ipv6 { PROBED_V6 } else { PROBED_V4 }.map(|address| address.to_string());
    let [p, q] = PROBE_PORTS.map(|port| port.to_string());
    let patience = PATIENCE.as_millis().to_string();
    let program = [LAB, "probe", &a, &b, &p, &q, "--patience", &patience];
    let mut probe = ground.place(host)?.start(&program, &[])?;
    let line = tokio::time::timeout(Duration::from_mins(1), probe.line()).await;
    let (_, words) = probe.end().await;
    let Ok(Some((_, line))) = line else {
        return Err(failed(words.trim().to_owned()));
    };
    serde_json::from_str(&line).map_err(|error| failed(format!("{error} in {line}")))
}
