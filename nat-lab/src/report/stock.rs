//! The hole punching results of stock rust-libp2p, for comparison.

use crate::results::Carrier;

/// The kinds that were measured, in the order of the rows and columns of [`QUIC`].
const KINDS: [&str; 10] = [
    "pub",
    "fc",
    "rc",
    "prc",
    "fc-np",
    "prc-np",
    "sym",
    "prc+prc",
    "fc+sym",
    "udp-blocked",
];

/// Pairs that were punched over QUIC in every run (`x`). No other pair was punched in any run. Row `i` starts at column
/// `i`.
const QUIC: [&str; 10] = [
    "xxxxxxxxx.",
    "xxxxxxxx.",
    "xxxxxxx.",
    "x...x..",
    "......",
    ".....",
    "....",
    "x..",
    "..",
    ".",
];

/// The same for TCP. `h` means that half of the runs were punched: those in which the easier side listened on the
/// relay.
const TCP: [&str; 10] = [
    "xxxxhhhxhx",
    "xxxhhhxhx",
    "xxhhhxhx",
    "x...x.x",
    "......",
    ".....",
    "....",
    "x.x",
    "..",
    "x",
];

/// Number of runs of a pair of different kinds. A kind paired with itself had [`RUNS_ALIKE`].
const RUNS: u32 = 6;
const RUNS_ALIKE: u32 = 5;

/// Returns in how many runs stock libp2p punched, and the number of runs. `None` if the pair was not measured. The
/// kinds may be in either order.
///
/// Measured with rust-libp2p 0.57.1 in network namespaces with kernel NAT and 10 ms per link.
pub fn stock(kind_a: &str, kind_b: &str, carrier: Carrier) -> Option<(u32, u32)> {
    let table = match carrier {
        Carrier::Quic => QUIC,
        Carrier::Tcp => TCP,
        Carrier::Both => return None,
    };
    let index = |kind| KINDS.iter().position(|known| *known == kind);
    let (a, b) = (index(kind_a)?, index(kind_b)?);
    let runs = if a == b { RUNS_ALIKE } else { RUNS };
    let punched = match table.get(a.min(b))?.as_bytes().get(a.abs_diff(b))? {
        b'x' => runs,
        b'h' => runs / 2,
        _ => 0,
    };
    Some((punched, runs))
}

#[cfg(test)]
mod tests {
    use super::{KINDS, stock};
    use crate::results::Carrier;

    #[test]
    fn either_kind_may_come_first() {
        for a in KINDS {
            for b in KINDS {
                for carrier in Carrier::ALL {
                    assert_eq!(stock(a, b, carrier), stock(b, a, carrier), "{a} × {b}");
                }
            }
        }
    }

    #[test]
    fn the_sums_are_those_that_were_measured() {
        let sum = |carrier| {
            let pairs = (0..KINDS.len()).flat_map(|a| (a..KINDS.len()).map(move |b| (a, b)));
            pairs.fold((0, 0), |(punched, runs), (a, b)| {
                let pair = stock(KINDS[a], KINDS[b], carrier).expect("every pair was measured");
                (punched + pair.0, runs + pair.1)
            })
        };
        assert_eq!(sum(Carrier::Tcp), (156, 320));
        assert_eq!(sum(Carrier::Quic), (157, 320));
    }

    #[test]
    fn single_pairs_as_they_were_measured() {
        assert_eq!(stock("pub", "pub", Carrier::Quic), Some((5, 5)));
        assert_eq!(stock("fc+sym", "rc", Carrier::Quic), Some((6, 6)));
        assert_eq!(stock("rc", "fc+sym", Carrier::Tcp), Some((3, 6)));
        assert_eq!(stock("prc", "fc-np", Carrier::Quic), Some((0, 6)));
        assert_eq!(stock("prc", "prc+prc", Carrier::Tcp), Some((6, 6)));
        assert_eq!(stock("udp-blocked", "prc", Carrier::Tcp), Some((6, 6)));
        assert_eq!(stock("udp-blocked", "prc", Carrier::Quic), Some((0, 6)));
        assert_eq!(stock("udp-blocked", "sym", Carrier::Tcp), Some((0, 6)));
        assert_eq!(stock("pub", "pub", Carrier::Both), None);
        assert_eq!(stock("pub", "sym-seq", Carrier::Tcp), None);
    }
}
