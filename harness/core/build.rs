//! Copies core's sources, and applies the changes of `mutants.rs`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

include!("mutants.rs");

const CORE: &str = "../../core/src";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=mutants.rs");
    println!("cargo::rerun-if-changed={CORE}");
    let mut sources = BTreeMap::new();
    read(Path::new(CORE), Path::new(""), &mut sources);
    for small in SMALL {
        let source = source(&mut sources, small.file);
        *source = replace_once(source, small.file, small.stands, small.instead);
    }
    for (index, mutant) in MUTANTS.iter().enumerate() {
        let source = source(&mut sources, mutant.file);
        let guarded = guard(index, mutant);
        *source = replace_once(source, mutant.file, mutant.stands, &guarded);
    }
    let lib = source(&mut sources, "lib.rs");
    *lib = without_inner_attributes(lib);
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("core");
    // Files that core no longer has must not remain.
    let _ = fs::remove_dir_all(&out);
    for (file, text) in sources {
        let path = out.join(file);
        fs::create_dir_all(path.parent().expect("it is below a folder")).expect("a folder");
        fs::write(path, text).expect("a copied source");
    }
}

fn read(folder: &Path, below: &Path, sources: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("core's sources stand beside the harness") {
        let path = entry.expect("an entry").path();
        let name = below.join(path.file_name().expect("a name"));
        if path.is_dir() {
            read(&path, &name, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            sources.insert(name.to_str().expect("a plain name").to_owned(), text);
        }
    }
}

fn source<'a>(sources: &'a mut BTreeMap<String, String>, file: &str) -> &'a mut String {
    let source = sources.get_mut(file);
    source.unwrap_or_else(|| panic!("core has no {file}: mutants.rs is out of date"))
}

fn replace_once(source: &str, file: &str, stands: &str, instead: &str) -> String {
    let count = source.matches(stands).count();
    assert!(
        count == 1,
        "{count} times in {file}, where mutants.rs wants it once: {stands}"
    );
    source.replacen(stands, instead, 1)
}

/// The original code, or the mutant's if it is active. Statements stay statements, expressions are parenthesised.
fn guard(index: usize, mutant: &Mutant) -> String {
    let (stands, instead) = (mutant.stands, mutant.instead);
    let choice = format!("if crate::mutant::is({index}) {{ {instead} }} else {{ {stands} }}");
    if stands.ends_with(';') {
        choice
    } else {
        format!("({choice})")
    }
}

/// An included file may not have inner attributes or inner doc comments.
fn without_inner_attributes(source: &str) -> String {
    let lines = source.lines().filter(|line| {
        let line = line.trim_start();
        !line.starts_with("//!") && !line.starts_with("#!")
    });
    lines.collect::<Vec<_>>().join("\n")
}
