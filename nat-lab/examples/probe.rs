//! `probe serve A1 A2 P1 P2` answers probes; `probe measure A1 A2 P1 P2` prints what one found, as JSON.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Duration;

use handover_nat_lab::probe;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, first, second, port, other] = arguments.as_slice() else {
        return Err("serve|measure ADDRESS ADDRESS PORT PORT".into());
    };
    let addresses = [first.parse()?, second.parse()?];
    let ports = [port.parse()?, other.parse()?];
    if what == "serve" {
        let server = probe::Server::bind(addresses, ports)?;
        println!("ready");
        return Err(server.run().into());
    }
    let found = probe::measure(addresses, ports, Duration::from_millis(700))?;
    println!("{}", serde_json::to_string(&found)?);
    Ok(())
}
