//! Plans in files: a saved plan is read back unchanged, and an invalid file gets a clear error.

use std::path::Path;
use std::process::Command;

use handover_harness::plan::{Plan, file};

fn refused(text: &str) -> String {
    let error = file::parse(text, Path::new("some.json"));
    error.expect_err("it should be refused").to_string()
}

#[test]
fn what_is_saved_comes_back() {
    for seed in 0..300 {
        let plan = Plan::draw(seed);
        assert_eq!(plan.fault(), None);
        let text = file::text(&plan);
        let read = file::parse(&text, Path::new("some.json")).expect("it was just saved");
        assert_eq!(read, plan);
    }
}

#[test]
fn any_bytes_are_a_plan() {
    for len in 0..200 {
        let bytes: Vec<u8> = (0..len).map(|at: u8| at.wrapping_mul(len)).collect();
        assert_eq!(Plan::decode(&bytes).fault(), None);
    }
    assert_eq!(Plan::decode(&[]), Plan::decode(&[]));
}

#[test]
fn a_plan_cut_short_anywhere_is_an_error() {
    let text = file::text(&Plan::draw(5));
    for len in 0..text.trim_end().len() {
        let cut = refused(&text[..len]);
        assert!(cut.contains("is cut short"), "{cut}");
    }
    insta::assert_snapshot!(refused(&text[..400]), @"some.json is cut short: it ends in line 10 before the plan does. Save it again, or draw it anew from its seed");
}

#[test]
fn what_is_no_plan_is_an_error() {
    insta::assert_snapshot!(refused("hello"), @"some.json is no plan: expected value at line 1 column 1");
    insta::assert_snapshot!(refused("[1, 2]"), @"some.json is no plan: trailing characters at line 1 column 5");
    insta::assert_snapshot!(refused(r#"{"version": 1, "seed": 3}"#), @"some.json is no plan: missing field `heals_at` at line 1 column 25");
    let text = file::text(&Plan::draw(5));
    let odd = text.replacen("\"seed\"", "\"sede\"", 1);
    insta::assert_snapshot!(refused(&odd), @"some.json is no plan: unknown field `sede`, expected one of `version`, `seed`, `heals_at`, `limits`, `hosts`, `relays`, `shares`, `orders`, `liars`, `attackers`, `stand_ins`, `faults` at line 28 column 8");
}

#[test]
fn a_plan_of_another_version_is_an_error() {
    let text = file::text(&Plan::draw(5)).replace("\"version\": 1", "\"version\": 2");
    insta::assert_snapshot!(refused(&text), @"some.json is a plan of version 2, and this simulator reads version 1: replay it with the commit that made it");
    // Independent of the rest of the file.
    insta::assert_snapshot!(refused(r#"{"version": 7, "planets": []}"#), @"some.json is a plan of version 7, and this simulator reads version 1: replay it with the commit that made it");
}

#[test]
fn a_plan_that_makes_no_sense_is_an_error() {
    let wrong = |change: fn(&mut Plan)| {
        let mut plan = Plan::draw(5);
        change(&mut plan);
        refused(&file::text(&plan))
    };
    insta::assert_snapshot!(wrong(|plan| plan.hosts.clear()), @"some.json can't be run: there are no hosts");
    insta::assert_snapshot!(wrong(|plan| plan.orders[0].host = 77), @"some.json can't be run: order 0 names host 77, and there are 4, counted from 0");
    insta::assert_snapshot!(wrong(|plan| plan.limits.window = 0), @"some.json can't be run: a limit of zero lets nothing happen");
    insta::assert_snapshot!(wrong(|plan| plan.shares[0].files = vec![u32::MAX]), @"some.json can't be run: share 0 has 4294967295 bytes in one file, and 67108864 are the most");
    insta::assert_snapshot!(wrong(|plan| plan.hosts[0].ways.clear()), @"some.json can't be run: host 0 has no way to it");
    insta::assert_snapshot!(wrong(|plan| {
        let order = plan.orders[0].clone();
        plan.orders = vec![order; 1000];
    }), @"some.json can't be run: 1000 orders, and 200 are the most");
}

/// The command line reports the error on standard error, with exit code 2.
#[test]
fn the_command_says_what_is_wrong_with_a_plan() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("plan.json");
    let say = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_handover-harness"))
            .args(arguments)
            .output()
            .expect("it runs");
        let words = String::from_utf8(output.stderr).expect("words");
        let words = words.replace(&folder.path().display().to_string(), "FOLDER");
        (output.status.code(), words)
    };
    let plan = path.to_str().expect("a path");
    insta::assert_snapshot!(say(&["replay", plan]).1, @"FOLDER/plan.json can't be read: No such file or directory (os error 2)");
    std::fs::write(&path, "{\"version\": 1,").expect("a file");
    let (code, words) = say(&["replay", plan]);
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(words, @"FOLDER/plan.json is cut short: it ends in line 1 before the plan does. Save it again, or draw it anew from its seed");
    assert_eq!(say(&["shrink", "12"]).0, Some(2));
    insta::assert_snapshot!(say(&["shrink", "12"]).1, @"12 keeps every promise: there is nothing to shrink");
    insta::assert_snapshot!(say(&["replay", "12", "--mutant", "x-men"]).1.lines().next().unwrap_or_default().chars().take(40).collect::<String>(), @"there is no mutant x-men; there are: bad");
    assert_eq!(say(&["replay", "--quiet", "12"]), (Some(0), String::new()));
}
