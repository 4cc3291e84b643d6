//! Checks how reports look, including reports of unusual results.

use std::collections::BTreeMap;

use handover_nat_lab::foreign::Selection;
use handover_nat_lab::probe::{Behaviour, Depends, Findings, Ports};
use handover_nat_lab::report::{self, Judgement, MergeError};
use handover_nat_lab::results::{About, Best, Carrier, Cell, KindResult, Matrix, Run, World};

const OPEN: Behaviour = Behaviour {
    translated: false,
    mapping: Depends::EndpointIndependent,
    filtering: None,
    ports: Ports::Kept,
};
const CONE: Behaviour = Behaviour {
    translated: true,
    mapping: Depends::EndpointIndependent,
    filtering: Some(Depends::AddressAndPort),
    ports: Ports::Kept,
};
const SYMMETRIC: Behaviour = Behaviour {
    translated: true,
    mapping: Depends::AddressAndPort,
    filtering: Some(Depends::AddressAndPort),
    ports: Ports::Other,
};

fn findings(udp: Option<Behaviour>, tcp: Option<Behaviour>) -> Findings {
    Findings {
        udp,
        tcp,
        hairpin: false,
    }
}

fn kind(name: &str, about: &str, udp: Option<Behaviour>, tcp: Behaviour) -> KindResult {
    KindResult {
        kind: name.to_owned(),
        about: about.to_owned(),
        v4: Some(findings(udp, Some(tcp))),
        v6: None,
    }
}

/// Returns the run with this number. Times grow with the number, and the sharer alternates between the two kinds.
fn run(number: usize, direct: bool) -> Run {
    let late = 7 * u64::try_from(number).unwrap();
    Run {
        sharer: u8::from(number % 2 == 1),
        complete: true,
        code: None,
        announced: None,
        connected: Some(120 + late),
        relayed_first: true,
        direct: direct.then_some(430 + late),
        upgrade: direct.then_some(310 + late),
        first_byte: None,
        relays: Vec::new(),
        took: 900 + 3 * late,
        error: None,
    }
}

/// Returns a cell of ten runs, of which the first `direct` are direct.
fn cell(kinds: [&str; 2], carrier: Carrier, best: Best, direct: usize) -> Cell {
    Cell {
        kinds: kinds.map(str::to_owned),
        carrier,
        best,
        runs: (0..10).map(|number| run(number, number < direct)).collect(),
    }
}

fn failing(mut cell: Cell, failed: usize, error: &str) -> Cell {
    for run in cell.runs.iter_mut().rev().take(failed) {
        run.complete = false;
        run.took = 60_000;
        run.error = Some(error.to_owned());
    }
    cell
}

fn about() -> About {
    About {
        date: "2026-11-25 10:30 UTC".to_owned(),
        commit: "0123456".to_owned(),
        machine: "Linux 6.12, 4 cores, 8 GiB".to_owned(),
        conditions: "10 ms each way, no loss".to_owned(),
        bytes: 1_048_576,
        world: None,
    }
}

/// Returns a small matrix with a cell of each sort.
fn matrix() -> Matrix {
    let mut cells = Vec::new();
    for carrier in [Carrier::Tcp, Carrier::Quic, Carrier::Both] {
        let tcp = carrier == Carrier::Tcp;
        let of = |kinds, best, direct| cell(kinds, carrier, best, direct);
        cells.extend([
            of(["pub", "pub"], Best::Direct, 10),
            of(["pub", "prc"], Best::Direct, 10),
            of(["pub", "sym"], Best::Direct, if tcp { 5 } else { 10 }),
            of(["prc", "prc"], Best::Direct, 10),
            of(["prc", "sym"], Best::Relay, if tcp { 0 } else { 4 }),
            of(["sym", "sym"], Best::Relay, 0),
            of(
                ["one-carrier-hairpin", "one-carrier-hairpin"],
                Best::Direct,
                9,
            ),
        ]);
        let blocked = of(
            ["udp-blocked", "pub"],
            Best::Direct,
            if tcp { 10 } else { 0 },
        );
        cells.push(match carrier {
            Carrier::Quic => failing(
                blocked,
                10,
                "no relay answered: <timed out> | \u{1b}[31m60 s\nand so on",
            ),
            _ => blocked,
        });
    }
    Matrix {
        about: about(),
        kinds: vec![
            kind("pub", "no NAT", Some(OPEN), OPEN),
            kind("prc", "port-restricted cone", Some(CONE), CONE),
            kind(
                "sym",
                "symmetric, ports at random",
                Some(SYMMETRIC),
                SYMMETRIC,
            ),
            kind("udp-blocked", "a cone that drops UDP", None, CONE),
        ],
        cells,
    }
}

fn judged(best: Best, direct: usize) -> Judgement {
    report::verdict(&cell(["a", "b"], Carrier::Tcp, best, direct)).judgement
}

#[test]
fn on_a_terminal() {
    insta::assert_snapshot!(report::table(&matrix(), Carrier::Tcp, false));
    insta::assert_snapshot!(report::table(&matrix(), Carrier::Quic, false));
}

#[test]
fn on_a_terminal_in_colour() {
    let coloured = report::table(&matrix(), Carrier::Quic, true);
    assert_eq!(
        console::strip_ansi_codes(&coloured),
        report::table(&matrix(), Carrier::Quic, false)
    );
    insta::assert_snapshot!(coloured.replace('\u{1b}', "ESC"));
}

#[test]
fn as_a_page() {
    insta::assert_snapshot!(report::html(&matrix()));
}

#[test]
fn as_markdown() {
    let reasons = BTreeMap::from([(
        "sym × pub, tcp".to_owned(),
        "Needs port prediction,\nsee `dial.rs`.".to_owned(),
    )]);
    insta::assert_snapshot!(report::markdown(&matrix(), &reasons));
}

#[test]
fn thirteen_kinds_fit_a_terminal() {
    let names = [
        "pub",
        "fc",
        "rc",
        "prc",
        "fc-np",
        "rc-np",
        "prc-np",
        "sym",
        "sym-seq",
        "prc+prc",
        "fc+sym",
        "v6",
        "udp-blocked",
    ];
    let mut matrix = matrix();
    matrix.kinds.clear();
    matrix.cells.clear();
    for (row, first) in names.iter().enumerate() {
        for second in &names[row..] {
            matrix
                .cells
                .push(cell([first, second], Carrier::Quic, Best::Direct, 10));
        }
    }
    let table = report::table(&matrix, Carrier::Quic, false);
    assert!(
        table
            .lines()
            .all(|line| console::measure_text_width(line) <= 100),
        "{table}"
    );
    insta::assert_snapshot!(table);
}

#[test]
fn nothing_at_all_is_still_a_report() {
    let nothing = Matrix {
        about: about(),
        kinds: Vec::new(),
        cells: Vec::new(),
    };
    insta::assert_snapshot!(report::table(&nothing, Carrier::Both, false));
    insta::assert_snapshot!(report::markdown(&nothing, &BTreeMap::new()));
    assert!(report::html(&nothing).contains("0 of 0 pairs"));
}

#[test]
fn runs_are_judged_by_what_theory_allows() {
    assert_eq!(judged(Best::Direct, 10), Judgement::Good);
    assert_eq!(judged(Best::Direct, 9), Judgement::Short);
    assert_eq!(judged(Best::Relay, 0), Judgement::Good);
    assert_eq!(judged(Best::Relay, 1), Judgement::Better);
    let mut twenty = cell(["a", "b"], Carrier::Tcp, Best::Direct, 10);
    twenty
        .runs
        .extend((0..10).map(|number| run(number, number < 9)));
    assert_eq!(
        report::verdict(&twenty).judgement,
        Judgement::Good,
        "19 of 20 are 95 %"
    );
    let broken = failing(cell(["a", "b"], Carrier::Tcp, Best::Direct, 10), 1, "gone");
    assert_eq!(report::verdict(&broken).judgement, Judgement::Broken);
    assert_eq!(report::first_error(&broken), Some("gone"));
    twenty.runs.clear();
    assert_eq!(report::verdict(&twenty).judgement, Judgement::Unmeasured);
}

#[test]
fn a_pair_is_as_good_as_its_best_carrier() {
    let of = |carrier, best, direct| cell(["a", "b"], carrier, best, direct);
    let judge = |cells: &[Cell]| {
        let pair = report::pair_verdict(cells);
        (pair.judgement, pair.over)
    };
    let broken = failing(of(Carrier::Tcp, Best::Direct, 0), 10, "gone");
    assert_eq!(
        judge(&[broken.clone(), of(Carrier::Quic, Best::Direct, 10)]),
        (Judgement::Good, vec![Carrier::Quic])
    );
    assert_eq!(
        judge(&[
            of(Carrier::Tcp, Best::Relay, 0),
            of(Carrier::Quic, Best::Direct, 5)
        ]),
        (Judgement::Short, vec![]),
        "a relay is not enough where QUIC could be direct"
    );
    assert_eq!(
        judge(&[
            of(Carrier::Tcp, Best::Relay, 0),
            of(Carrier::Quic, Best::Relay, 3)
        ]),
        (Judgement::Better, vec![Carrier::Tcp, Carrier::Quic])
    );
    assert_eq!(judge(&[broken]), (Judgement::Broken, vec![]));
    assert_eq!(judge(&[]), (Judgement::Unmeasured, vec![]));
}

#[test]
fn nothing_in_a_result_gets_into_the_markup() {
    let bad = "<img src=x onerror=\"alert('1')\"> | `a` \u{1b}]0;title\u{7} \u{202e}";
    let mut matrix = matrix();
    matrix.about.machine = bad.to_owned();
    matrix.kinds[0].kind = bad.to_owned();
    matrix.kinds[0].about = bad.to_owned();
    matrix.cells[0] = failing(cell([bad, "sym"], Carrier::Tcp, Best::Direct, 0), 3, bad);
    let page = report::html(&matrix);
    assert!(
        !page.contains("<img") && !page.contains("alert('"),
        "{page}"
    );
    let kept = report::markdown(&matrix, &BTreeMap::new());
    assert!(!kept.replace("\\<", "").contains("<img"), "{kept}");
    let table = report::table(&matrix, Carrier::Tcp, false);
    for text in [page, kept, table] {
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{text:?}");
    }
}

#[test]
fn findings_in_the_terms_of_rfc_4787() {
    let sequential = Behaviour {
        mapping: Depends::Address,
        filtering: Some(Depends::Address),
        ports: Ports::Sequential,
        ..CONE
    };
    let firewall = Behaviour {
        filtering: Some(Depends::AddressAndPort),
        ..OPEN
    };
    let hairpin = Findings {
        hairpin: true,
        ..findings(Some(CONE), Some(CONE))
    };
    let all = [
        findings(Some(OPEN), Some(OPEN)),
        findings(Some(firewall), Some(firewall)),
        hairpin,
        findings(Some(sequential), Some(SYMMETRIC)),
        findings(None, Some(CONE)),
        findings(Some(CONE), None),
        findings(None, None),
    ];
    insta::assert_snapshot!(
        all.map(|found| report::findings_in_words(&found))
            .join("\n")
    );
}

#[test]
fn saved_results_come_back() {
    let matrix = matrix();
    assert_eq!(report::read(&report::json(&matrix)).unwrap(), matrix);
    insta::assert_snapshot!(report::read("{}").unwrap_err(), @"these are no results of the lab: missing field `about` at line 1 column 2");
}

#[test]
fn rounds_are_joined_whichever_kind_they_name_first() {
    let mut other = matrix();
    other.about.date = "2026-11-24 09:00 UTC".to_owned();
    let turned = &mut other.cells[1];
    turned.kinds.reverse();
    turned.runs.truncate(1);
    let merged = report::merge(vec![matrix(), other]).unwrap();
    assert_eq!(merged.about.date, "2026-11-24 09:00 UTC", "the earliest");
    assert_eq!(merged.cells.len(), matrix().cells.len());
    assert_eq!(merged.cells[0].runs.len(), 20);
    assert_eq!(merged.cells[1].kinds, ["pub", "prc"]);
    assert_eq!(
        merged.cells[1].runs[10].sharer, 1,
        "it shared from behind pub, which is named first here"
    );
}

#[test]
fn rounds_that_do_not_belong_together_are_refused() {
    let refused = |change: fn(&mut Matrix)| {
        let mut other = matrix();
        change(&mut other);
        report::merge(vec![matrix(), other])
            .unwrap_err()
            .to_string()
    };
    insta::assert_snapshot!(refused(|other| other.about.commit += "+"), @r#"the results are of different commits: "0123456" and "0123456+""#);
    insta::assert_snapshot!(refused(|other| other.about.bytes = 1), @r#"the results are of different sizes: "1048576" and "1""#);
    insta::assert_snapshot!(refused(|other| other.kinds[1].v4 = other.kinds[0].v4), @"what prc was found to be differs between the results");
    insta::assert_snapshot!(refused(|other| other.cells[0].best = Best::Relay), @"the results differ in what theory allows pub × pub, tcp");
    assert_eq!(report::merge(Vec::new()), Err(MergeError::Nothing));
}

/// Returns a matrix of one pair, measured with foreign nodes.
fn in_foreign_world() -> Matrix {
    let mut cell = cell(["prc", "sym"], Carrier::Both, Best::Relay, 0);
    for (number, run) in cell.runs.iter_mut().enumerate() {
        run.code = Some(200);
        run.announced = Some(600 + number as u64);
        run.first_byte = Some(1_500);
        let software = if number < 7 { "kubo" } else { "js-rsa" };
        run.relays = vec![software.to_owned()];
    }
    let world = World {
        selection: Selection::Mixed,
        nodes: Selection::Mixed.nodes(),
        addresses: Carrier::Both,
        versions: vec!["js-libp2p 3".to_owned()],
    };
    Matrix {
        about: About {
            world: Some(world),
            ..about()
        },
        kinds: Vec::new(),
        cells: vec![cell],
    }
}

#[test]
fn the_foreign_section_names_nodes_versions_times_and_who_relayed() {
    let section = report::foreign(&[in_foreign_world(), matrix()]);
    for wanted in [
        "- js-libp2p 3\n",
        "| mixed | kubo, RSA · ",
        "| mixed | TCP and QUIC | *prc × sym* | both | 1 | 10/10 | 0/10 | 200 ms (200 ms) | 604 ms (609 ms) | 1.5 s (1.5 s) |",
        "| js-rsa 3, kubo 7 |",
    ] {
        assert!(section.contains(wanted), "{wanted}: {section}");
    }
    assert!(!section.contains("pub ×"), "{section}");
    assert_eq!(report::foreign(&[matrix()]), "");
}

#[test]
fn results_of_other_nodes_are_not_joined() {
    let foreign = in_foreign_world();
    let own = Matrix {
        about: about(),
        ..foreign.clone()
    };
    let error = report::merge(vec![foreign, own]).unwrap_err();
    assert!(
        matches!(error, MergeError::About { what: "nodes", .. }),
        "{error}"
    );
}
