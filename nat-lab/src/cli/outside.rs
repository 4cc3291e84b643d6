//! The commands that a user runs.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use console::Term;
use handover_nat_lab::foreign::Store;
use handover_nat_lab::ground::{self, Engine, Ground, World};
use handover_nat_lab::matrix::{self, Order};
use handover_nat_lab::results::{self, About, Carrier, Matrix};
use handover_nat_lab::scenario::Scenario;
use handover_nat_lab::topology::Topology;
use handover_nat_lab::verify::{Proof, verify};
use handover_nat_lab::wire::Conditions;
use handover_nat_lab::{play, report, sites};

use super::{Command, MatrixArgs, WorldName};

/// Exit code if a result fell short of the expectation.
const SHORT: u8 = 1;
/// Exit code if the lab failed.
const CANNOT: u8 = 2;
/// Exit code after Ctrl-C.
const INTERRUPTED: u8 = 130;

/// The exit code of a command, or an error message.
pub(super) type Ended = Result<ExitCode, String>;

pub(super) fn run(command: Command) -> ExitCode {
    let ended = match command {
        Command::List => {
            list();
            Ok(ExitCode::SUCCESS)
        }
        Command::Report {
            files,
            reasons,
            out,
        } => redraw(&files, reasons.as_deref(), &out),
        Command::Verify { only } => in_lab(async |engine| verify_all(engine, &only).await),
        Command::Matrix(args) => in_lab(async |engine| measure(engine, &args).await),
        Command::Foreign { command } => super::foreign::run(&command),
        Command::Run {
            file,
            repeats,
            world,
            nodes,
            hold,
            out,
        } => read_scenario(&file).and_then(|mut scenario| {
            if let Some(world) = world {
                let foreign = (world == WorldName::Foreign).then_some(nodes);
                scenario.nodes.in_world(foreign);
            }
            in_lab(async |engine| {
                if hold {
                    return hold_up(engine, &scenario).await;
                }
                play_it(engine, &scenario, repeats, &out).await
            })
        }),
        Command::Clean => in_lab(async |_| Ok(ExitCode::SUCCESS)),
        Command::Inside(_) => Ok(ExitCode::from(CANNOT)),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(CANNOT)
    })
}

pub(super) fn exit(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(SHORT)
    }
}

pub(super) fn words(error: impl Display) -> String {
    error.to_string()
}

/// Runs `act` with a container engine. Removes all containers afterwards, also after an error or Ctrl-C.
pub(super) fn in_lab<F, T>(act: F) -> Ended
where
    F: FnOnce(Engine) -> T,
    T: Future<Output = Ended>,
{
    ground::check_machine().map_err(words)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(words)?;
    runtime.block_on(async {
        let engine = Engine::connect().await.map_err(words)?;
        let leftovers = ground::remove_leftovers(&engine).await.map_err(words)?;
        if leftovers > 0 {
            eprintln!("removed {leftovers} containers of a lab that had ended without doing so");
        }
        let ended = tokio::select! {
            ended = act(engine.clone()) => ended,
            _ = tokio::signal::ctrl_c() => {
                eprintln!("\ninterrupted; taking down what was built");
                Ok(ExitCode::from(INTERRUPTED))
            }
        };
        let removed = engine.remove_own().await.map_err(words);
        ended.and_then(|code| removed.map(|_| code))
    })
}

fn list() {
    println!("Places that one of two peers can be at:");
    for site in sites::all() {
        println!("  {:<20} {}", site.name, site.about);
    }
    println!("\nPlaces that two peers share:");
    for (name, about, _) in sites::shared(Conditions::default()) {
        println!("  {name:<20} {about}");
    }
}

/// Builds and probes every place, and prints the findings.
async fn verify_all(engine: Engine, only: &[String]) -> Ended {
    let mut topology = Topology::default();
    let mut hosts = Vec::new();
    let plain = Conditions::default();
    let (sites, shared) = sites::select(only, plain).map_err(words)?;
    for (at, site) in sites.iter().enumerate() {
        topology.add(&format!("a{at}-"), &site.topology(plain));
        hosts.push((format!("a{at}-host"), site.name));
    }
    for (at, (name, _, shared)) in shared.into_iter().enumerate() {
        topology.add(&format!("s{at}-"), &shared);
        hosts.push((format!("s{at}-one"), name));
    }
    eprintln!("building {} places", hosts.len());
    let ground = Ground::build(&engine, &topology, &World::Own(Vec::new()), 1)
        .await
        .map_err(words)?;
    let mut wrong = 0;
    for (host, name) in &hosts {
        match verify(&ground, host).await {
            Ok(proof) => println!("{name:<20} {}", in_words(&proof)),
            Err(error) => {
                wrong += 1;
                println!("{name:<20} WRONG: {error}");
            }
        }
    }
    ground.remove().await.map_err(words)?;
    Ok(exit(wrong == 0))
}

fn in_words(proof: &Proof) -> String {
    let both = [("IPv4", proof.v4), ("IPv6", proof.v6)];
    let told = both.into_iter().filter_map(|(ip, found)| {
        let found = report::findings_in_words(&found?);
        Some(format!("{ip}: {found}"))
    });
    told.collect::<Vec<_>>().join("; ")
}

/// Measures a matrix, or one for each selection of foreign nodes. Saves and prints them.
async fn measure(engine: Engine, args: &MatrixArgs) -> Ended {
    let link = args.link()?;
    let order = |world, out: &Path| Order {
        only: args.only.clone(),
        pairs: args.pairs.clone(),
        world,
        addresses: args.addresses.into(),
        over: args.over.iter().copied().map(Carrier::from).collect(),
        repeats: args.repeats,
        at_once: usize::from(args.at_once),
        bytes: args.bytes,
        link,
        seed: args.seed,
        logs: out.join("logs"),
    };
    if args.world == WorldName::Own {
        let order = order(World::Own(Vec::new()), &args.out);
        let matrix = measure_one(&engine, &order, &args.out).await?;
        return Ok(exit(is_fine(&matrix)));
    }
    let mut matrices = Vec::new();
    for selection in &args.nodes {
        println!("\nfrom here on the nodes are {}", selection.about());
        let out = args.out.join(selection.name());
        let world = World::foreign(*selection).map_err(words)?;
        matrices.push(measure_one(&engine, &order(world, &out), &out).await?);
    }
    save_foreign(&args.out, &matrices)?;
    Ok(exit(matrices.iter().all(is_fine)))
}

fn is_fine(matrix: &Matrix) -> bool {
    let pairs = report::pairs(matrix);
    pairs.iter().all(|(_, verdict)| verdict.is_fine())
}

/// Measures one matrix, saves it and prints it.
pub(super) async fn measure_one(
    engine: &Engine,
    order: &Order,
    out: &Path,
) -> Result<Matrix, String> {
    let world = match &order.world {
        World::Own(_) => None,
        World::Foreign(selection, _) => Some(results::World {
            selection: *selection,
            nodes: selection.nodes(),
            addresses: order.addresses,
            versions: Store::versions(),
        }),
    };
    let about = About {
        date: today(),
        commit: commit(),
        machine: machine(),
        conditions: format!(
            "each peer's link: {}, one way; {} at once",
            order.link, order.at_once
        ),
        bytes: order.bytes,
        world,
    };
    let mut line = StatusLine::new();
    let progress = |progress: matrix::Progress<'_>| match progress {
        matrix::Progress::Building { hosts, runs } => {
            line.say(&format!("{runs} runs; building a network of {hosts} hosts"));
        }
        matrix::Progress::Proved(place) => line.say(&format!("{place} is what it claims to be")),
        matrix::Progress::Ran {
            done,
            of,
            failed,
            short,
            left,
        } => line.say(&format!(
            "{done} of {of} runs; {failed} failed, {short} fell short; {} left",
            minutes(left)
        )),
    };
    let matrix = matrix::measure(engine, order, about, progress).await;
    let matrix = matrix.map_err(words)?;
    save(out, &matrix, &BTreeMap::new())?;
    show(&matrix);
    println!("\nsaved in {}", out.display());
    Ok(matrix)
}

/// Saves and prints the section about foreign nodes.
pub(super) fn save_foreign(out: &Path, matrices: &[Matrix]) -> Result<(), String> {
    let path = out.join("FOREIGN.md");
    let section = report::foreign(matrices);
    println!("\n{section}");
    std::fs::write(&path, section).map_err(|error| format!("{}: {error}", path.display()))
}

fn show(matrix: &Matrix) {
    let colours = console::colors_enabled();
    let mut carriers: Vec<Carrier> = matrix.cells.iter().map(|cell| cell.carrier).collect();
    carriers.sort();
    carriers.dedup();
    for carrier in carriers {
        println!("{}", report::table(matrix, carrier, colours));
    }
}

fn save(out: &Path, matrix: &Matrix, reasons: &BTreeMap<String, String>) -> Result<(), String> {
    let failed = |path: &Path, error| format!("{}: {error}", path.display());
    std::fs::create_dir_all(out).map_err(|error| failed(out, error))?;
    for (name, text) in [
        ("matrix.json", report::json(matrix)),
        ("matrix.html", report::html(matrix)),
        ("RESULTS.md", report::markdown(matrix, reasons)),
    ] {
        let path = out.join(name);
        std::fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

fn redraw(files: &[PathBuf], reasons: Option<&Path>, out: &Path) -> Ended {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let matrices = files.iter().map(|path| {
        let text = read(path)?;
        report::read(&text).map_err(|error| format!("{}: {error}", path.display()))
    });
    let matrices = matrices.collect::<Result<Vec<_>, _>>()?;
    let matrix = report::merge(matrices).map_err(words)?;
    let reasons = match reasons {
        Some(path) => {
            toml::from_str(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))?
        }
        None => BTreeMap::new(),
    };
    save(out, &matrix, &reasons)?;
    show(&matrix);
    Ok(ExitCode::SUCCESS)
}

fn read_scenario(file: &Path) -> Result<Scenario, String> {
    let failed = |error: String| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| failed(words(error)))?;
    Scenario::read(&text).map_err(failed)
}

/// Builds a scenario's network, and prints how to run programs on its hosts.
async fn hold_up(engine: Engine, scenario: &Scenario) -> Ended {
    println!("{}\n", scenario.about);
    let world = scenario.nodes.world().map_err(words)?;
    let ground = Ground::build(&engine, &scenario.topology, &world, 1).await;
    let ground = ground.map_err(words)?;
    for host in scenario.topology.hosts.keys() {
        let proof = verify(&ground, host).await.map_err(words)?;
        let enter = ground.place(host).map_err(words)?.enter();
        println!(
            "{host} is behind: {}\n    {} /bin/handover",
            in_words(&proof),
            enter.join(" ")
        );
    }
    println!("\nThe nodes, for --bootstrap:");
    for address in ground.nodes().iter().flat_map(|node| &node.addresses) {
        println!("    {address}");
    }
    println!("\nIt stands until Ctrl-C. Hosts may write below /tmp, which is gone then.");
    std::future::pending().await
}

/// Plays a scenario and prints its progress.
async fn play_it(engine: Engine, scenario: &Scenario, repeats: u32, out: &Path) -> Ended {
    println!("{}", scenario.about);
    let mut tell = |progress: play::Progress<'_>| match progress {
        play::Progress::Building => eprintln!("building the network"),
        play::Progress::Proved(host, proof) => println!("{host} is behind: {}", in_words(&proof)),
        play::Progress::Begins(number) => println!("run {number} of {repeats}"),
        play::Progress::Told(after, event) => {
            if let Some(line) = notable(event) {
                println!("{after:>7} ms  {line}");
            }
        }
        play::Progress::Moved(host) => println!("            {host} moves to another network"),
    };
    let played = play::play(&engine, scenario, repeats, out, &mut tell).await;
    let played = played.map_err(words)?;
    for (number, outcome) in played.outcomes.iter().enumerate() {
        let run = &outcome.run;
        let told = [("connected", run.connected), ("direct", run.direct)];
        let told = told
            .into_iter()
            .filter_map(|(what, after)| Some(format!("{what} after {} ms, ", after?)));
        let ended = if run.complete {
            "complete"
        } else {
            "not complete"
        };
        println!(
            "run {}: {}{ended} after {} ms",
            number + 1,
            told.collect::<String>(),
            run.took
        );
    }
    if let Some(why) = played.no_captures {
        println!("nothing was captured: {why}");
    }
    println!("logs and captures: {}", out.display());
    for missed in &played.disappointments {
        println!("SHORT: {missed}");
    }
    Ok(exit(played.disappointments.is_empty()))
}

/// Returns the line to print for an event, or `None` for an event that is not printed.
fn notable(event: &serde_json::Value) -> Option<String> {
    let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
    Some(match event["event"].as_str()? {
        "connecting" => format!("looking for the other side {}", text("reason")),
        "connected" => format!("connected: {}", text("path")),
        "path_changed" => format!("goes on over: {}", text("path")),
        "connection_lost" => format!("connection lost ({}): {}", text("path"), text("reason")),
        "download_ended" => format!("ended: {} {}", text("outcome"), text("message")),
        "failed" => format!("failed: {}", text("message")),
        _ => return None,
    })
}

/// A status line: rewritten in place on a terminal, printed from time to time elsewhere.
struct StatusLine {
    term: Term,
    shown: bool,
    last: Option<SystemTime>,
}

impl StatusLine {
    /// Minimum interval between lines where they can't be rewritten.
    const SELDOM: Duration = Duration::from_secs(20);

    fn new() -> Self {
        Self {
            term: Term::stderr(),
            shown: false,
            last: None,
        }
    }

    fn say(&mut self, line: &str) {
        if self.term.is_term() {
            if self.shown {
                let _ = self.term.clear_last_lines(1);
            }
            let _ = self.term.write_line(line);
            self.shown = true;
            return;
        }
        let due = self
            .last
            .is_none_or(|last| last.elapsed().is_ok_and(|since| since >= Self::SELDOM));
        if due {
            self.last = Some(SystemTime::now());
            let _ = self.term.write_line(line);
        }
    }
}

fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 90 {
        format!("{seconds} s")
    } else {
        format!("{} min", seconds.div_ceil(60))
    }
}

/// Returns the trimmed output of a program. `None` if it can't be run or fails.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = std::process::Command::new(program)
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.trim().to_owned())
}

fn today() -> String {
    output("date", &["-u", "+%Y-%m-%d %H:%M UTC"]).unwrap_or_else(|| "unknown".into())
}

fn commit() -> String {
    let Some(commit) = output("git", &["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".into();
    };
    let changes = output("git", &["status", "--porcelain", "--untracked-files=no"]);
    let dirty = changes.is_some_and(|changes| !changes.is_empty());
    format!("{commit}{}", if dirty { "+" } else { "" })
}

fn machine() -> String {
    let kernel = output("uname", &["-sr"]).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.lines().next().and_then(|line| {
        let words = line.split_whitespace().nth(1)?;
        words.parse::<u64>().ok()
    });
    let gib = kib.unwrap_or_default().div_ceil(1 << 20);
    format!("{kernel}, {cores} cores, {gib} GiB")
}
