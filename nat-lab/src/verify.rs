//! Checks every NAT before it is used: a probe runs on the host behind it, and its findings are compared with what the
//! place claims.

use std::time::Duration;

use crate::ground::{Ground, GroundError, LAB, PROBE_PORTS, PROBED_V4, PROBED_V6};
use crate::nat::{Kind, chained};
use crate::probe::{self, Findings};

/// How long the probe waits for an answer that may not come. Longer than the longest round trip.
const PATIENCE: Duration = Duration::from_millis(900);
/// Maximum number of attempts if a probe fails or its findings differ from the claim. The machine may have been too
/// busy to answer in time, while a wrong NAT never matches its claim by chance.
const TRIES: u32 = 3;

/// What a probe found in front of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proof {
    /// Findings over IPv4, if the host has it.
    pub v4: Option<Findings>,
    /// Findings over IPv6, if the host has it.
    pub v6: Option<Findings>,
}

/// Why a NAT was rejected.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It behaves differently from what it claims.
    #[error("the place of \"{host}\" is not what it claims to be: {difference}")]
    Different {
        /// The host behind it.
        host: String,
        /// The differences.
        difference: String,
    },
    /// The probe failed.
    #[error("the probe of \"{host}\" failed: {reason}")]
    Probe {
        /// The host that the probe ran on.
        host: String,
        /// The reason.
        reason: String,
    },
    /// The network failed.
    #[error(transparent)]
    Ground(#[from] GroundError),
}

/// Probes what a host is behind and compares it with what its gateways claim.
///
/// # Errors
///
/// The findings differ from the claim, or the probe fails.
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

/// Returns what a host behind all of these gateways must find. The first is its own gateway.
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
            // A newly created network may not answer yet.
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

/// Runs the probe on a host and returns its findings.
///
/// # Errors
///
/// The probe fails, or takes longer than a minute.
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
