//! The network that the tests run in: a bridge with many addresses, all of which count as public, and a name server.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Once;

/// The address of the name server.
pub const RESOLVER: &str = "11.7.0.53";

/// Number of addresses besides the resolver's. All have the same prefix.
const ADDRESSES: u8 = 60;

/// Returns the address with this number.
pub fn address(number: u8) -> Ipv4Addr {
    assert!(number <= ADDRESSES);
    [11, 7, 1, number].into()
}

/// Creates the network, unless it exists already. This process has its own namespaces.
pub fn make() {
    static MADE: Once = Once::new();
    MADE.call_once(|| {
        let addresses = (1..=ADDRESSES).map(address);
        let addresses = addresses.map(|address| format!("ip addr add {address}/8 dev world"));
        let mut script = vec![FURNISH.to_owned()];
        script.extend(addresses);
        let made = Command::new("sh")
            .args(["-ec", &script.join("\n"), RESOLVER])
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "no network can be made: {words}");
    });
}

/// Loads packet filter rules in the syntax of `nft`.
pub fn rules(rules: &str) {
    let loaded = Command::new("nft").arg(rules).status().unwrap();
    assert!(loaded.success(), "{rules}");
}

/// Returns addresses that never answer.
pub fn black_holes() -> [Ipv4Addr; 3] {
    let holes = [58, 57, 56].map(address);
    let [first, second, third] = holes;
    rules(&format!(
        "table ip holes {{ chain inwards {{ type filter hook input priority 0;
            ip daddr {{ {first}, {second}, {third} }} drop; }}; }}"
    ));
    holes
}

/// Shell script; `$0` is the resolver's address. The file that names the resolver is mounted over the target of the
/// machine's `/etc/resolv.conf`, which may be a link into `/run`, and that is empty here.
const FURNISH: &str = r#"
ip link add name world type bridge
ip link set world up
ip addr add "$0/8" dev world
resolver=$(mktemp)
printf 'nameserver %s\noptions timeout:2 attempts:1\n' "$0" > "$resolver"
machine=$(readlink -m /etc/resolv.conf)
[ -e "$machine" ] || { mkdir -p "${machine%/*}"; : > "$machine"; }
mount --bind "$resolver" "$machine"
rm "$resolver"
"#;
