//! Tests every place against every other: which pairs connect, over which path, how fast, and whether the file arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::foreign::Wear;
use crate::ground::{Engine, Ground, GroundError, World};
use crate::results::{About, Best, Carrier, Cell, KindResult, Matrix};
use crate::sites::{self, Shared, UnknownPlace};
use crate::topology::Topology;
use crate::transfer::{Outcome, Transfer};
use crate::verify::{Proof, VerifyError, verify};
use crate::wire::Conditions;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Order {
    /// Names of the places. Empty means all.
    pub only: Vec<String>,
    /// Pairs of them. Empty means all.
    pub pairs: Vec<[String; 2]>,
    /// The nodes that peers bootstrap from.
    pub world: World,
    /// Which addresses of the nodes peers are given, out of those that they may connect over.
    pub addresses: Carrier,
    /// The transports that peers may connect over, each measured separately.
    pub over: Vec<Carrier>,
    /// Number of runs of each cell.
    pub repeats: u32,
    /// Maximum number of transfers at the same time.
    pub at_once: usize,
    /// Size of each file, in bytes.
    pub bytes: u64,
    /// Conditions of each peer's link to the internet.
    pub link: Conditions,
    /// Seed of the order of runs and of the content of files.
    pub seed: u64,
    /// Folder for the logs of runs that failed or fell short.
    pub logs: PathBuf,
}

/// Progress of a measurement.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The network is being built.
    Building {
        /// Number of hosts.
        hosts: usize,
        /// Number of runs to come.
        runs: usize,
    },
    /// A place was found to behave as it claims.
    Proved(&'a str),
    /// A run has ended.
    Ran {
        /// Number of runs that have ended.
        done: usize,
        /// Number of runs in all.
        of: usize,
        /// Number of runs whose file did not arrive.
        failed: usize,
        /// Number of complete runs without a direct link, although theory allows one.
        short: usize,
        /// Estimated time left, from the average so far.
        left: Duration,
    },
}

/// Why a measurement failed.
#[derive(Debug, thiserror::Error)]
pub enum MatrixError {
    /// There is no such place.
    #[error(transparent)]
    Unknown(#[from] UnknownPlace),
    /// A NAT behaves differently from its claim.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The network failed.
    #[error(transparent)]
    Ground(#[from] GroundError),
}

/// Timeout for a transfer. One that takes longer is not expected to complete.
const PATIENCE: Duration = Duration::from_secs(90);

impl Order {
    fn wants(&self, [a, b]: [&str; 2]) -> bool {
        let is = |pair: &[String; 2]| *pair == [a, b] || *pair == [b, a];
        self.pairs.is_empty() || self.pairs.iter().any(is)
    }

    /// Returns the places named by `pairs` and `only`.
    fn places(&self) -> Vec<String> {
        let mut places: Vec<String> = self.pairs.iter().flatten().cloned().collect();
        places.extend(self.only.iter().cloned());
        places.sort();
        places.dedup();
        places
    }

    /// True if peers that use only `carrier` get the address of a node that uses it.
    fn speak(&self, carrier: Carrier) -> bool {
        let told = match (self.addresses, carrier) {
            (Carrier::Both, one) | (one, Carrier::Both) => Some(one),
            (a, b) => (a == b).then_some(a),
        };
        told.is_some_and(|told| match &self.world {
            World::Own(_) => true,
            World::Foreign(selection, _) => selection.speaks(told),
        })
    }
}

/// A cell and its two hosts.
struct Square {
    cell: Cell,
    hosts: [String; 2],
}

/// The network and the cells of a matrix.
struct Grid {
    topology: Topology,
    /// A host of each place, with the place's name and description.
    places: Vec<(String, String, String)>,
    squares: Vec<Square>,
}

/// Measures a matrix.
///
/// # Errors
///
/// A place is unknown, the network can't be built, or a NAT behaves differently from its claim.
pub async fn measure(
    engine: &Engine,
    order: &Order,
    about: About,
    mut tell: impl FnMut(Progress<'_>),
) -> Result<Matrix, MatrixError> {
    let mut grid = Grid::new(order)?;
    tell(Progress::Building {
        hosts: grid.topology.hosts.len(),
        runs: grid.squares.len() * order.repeats as usize,
    });
    let mut ground = Ground::build(engine, &grid.topology, &order.world, order.seed).await?;
    let kinds = prove(&ground, &grid.places, &mut tell).await?;
    run_all(&mut ground, &mut grid.squares, order, &mut tell).await?;
    ground.remove().await?;
    let cells = grid.squares.into_iter().map(|square| square.cell).collect();
    Ok(Matrix {
        about,
        kinds,
        cells,
    })
}

impl Grid {
    fn new(order: &Order) -> Result<Self, MatrixError> {
        let (sites, shared) = sites::select(&order.places(), order.link)?;
        let mut grid = Self {
            topology: Topology::default(),
            places: Vec::new(),
            squares: Vec::new(),
        };
        for (at, site) in sites.iter().enumerate() {
            for side in ["a", "b"] {
                let prefix = format!("{side}{at}-");
                grid.topology.add(&prefix, &site.topology(order.link));
                let host = format!("{prefix}host");
                grid.places
                    .push((host, site.name.to_owned(), site.about.to_owned()));
            }
        }
        for carrier in &order.over {
            for (i, a) in sites.iter().enumerate() {
                for (j, b) in sites.iter().enumerate().skip(i) {
                    let speak = order.speak(*carrier) && order.wants([a.name, b.name]);
                    if !speak || !a.gets_out(*carrier) || !b.gets_out(*carrier) {
                        continue;
                    }
                    let hosts = [format!("a{i}-host"), format!("b{j}-host")];
                    let best = sites::best(a, b, *carrier);
                    grid.square([a.name, b.name], *carrier, best, hosts);
                }
            }
        }
        grid.add_shared(order, shared);
        Ok(grid)
    }

    fn add_shared(&mut self, order: &Order, shared: Vec<Shared>) {
        for (at, (name, about, topology)) in shared.into_iter().enumerate() {
            let prefix = format!("s{at}-");
            self.topology.add(&prefix, &topology);
            let hosts = ["one", "two"].map(|host| format!("{prefix}{host}"));
            self.places
                .push((hosts[0].clone(), name.to_owned(), about.to_owned()));
            let best = sites::best_shared(name);
            let over = order.over.iter();
            for carrier in over.filter(|it| order.speak(**it) && order.wants([name, name])) {
                self.square([name, name], *carrier, best, hosts.clone());
            }
        }
    }

    fn square(&mut self, kinds: [&str; 2], carrier: Carrier, best: Best, hosts: [String; 2]) {
        let cell = Cell {
            kinds: kinds.map(str::to_owned),
            carrier,
            best,
            runs: Vec::new(),
        };
        self.squares.push(Square { cell, hosts });
    }
}

/// Probes every place, on both sides.
async fn prove(
    ground: &Ground,
    places: &[(String, String, String)],
    tell: &mut impl FnMut(Progress<'_>),
) -> Result<Vec<KindResult>, MatrixError> {
    /// Maximum number of probes at once. Each waits for packets that must not arrive, and on a busy machine answers
    /// would come too late.
    const PROBES: usize = 4;
    let proofs = places.iter().map(|(host, name, about)| {
        verify(ground, host).map(move |proof| proof.map(|proof| (name, about, proof)))
    });
    let mut proofs = futures::stream::iter(proofs).buffered(PROBES);
    let mut kinds: Vec<KindResult> = Vec::new();
    while let Some(proof) = proofs.next().await {
        let (name, about, Proof { v4, v6 }) = proof?;
        tell(Progress::Proved(name));
        if kinds.iter().all(|kind| kind.kind != *name) {
            kinds.push(KindResult {
                kind: name.clone(),
                about: about.clone(),
                v4,
                v6,
            });
        }
    }
    Ok(kinds)
}

/// One run to do.
#[derive(Clone, Copy)]
struct Task {
    square: usize,
    /// Which of the two hosts shares: 0 or 1.
    sharer: u8,
    number: u64,
}

/// Counts of the runs so far.
struct Tally {
    of: usize,
    done: usize,
    failed: usize,
    short: usize,
    began: Instant,
}

impl Tally {
    fn ran(&mut self, complete: bool, falls_short: bool) -> Progress<'static> {
        self.done += 1;
        self.failed += usize::from(!complete);
        self.short += usize::from(complete && falls_short);
        let pace = self.began.elapsed() / u32::try_from(self.done).unwrap_or(u32::MAX);
        Progress::Ran {
            done: self.done,
            of: self.of,
            failed: self.failed,
            short: self.short,
            left: pace * u32::try_from(self.of - self.done).unwrap_or(u32::MAX),
        }
    }
}

/// Does all runs, in shuffled order, so that a temporary load on the machine does not affect one cell only. Restarts
/// the nodes before they run out of reservations.
async fn run_all(
    ground: &mut Ground,
    squares: &mut [Square],
    order: &Order,
    tell: &mut impl FnMut(Progress<'_>),
) -> Result<(), MatrixError> {
    let tasks = tasks(squares.len(), order);
    let mut tally = Tally {
        of: tasks.len(),
        done: 0,
        failed: 0,
        short: 0,
        began: Instant::now(),
    };
    let wear = order.world.wear();
    for (at, tasks) in portions(tasks, squares, wear).into_iter().enumerate() {
        if at > 0 {
            ground.restart_nodes(&order.world).await?;
        }
        run_some(ground, squares, order, tasks, |outcome, falls_short| {
            tell(tally.ran(outcome.run.complete, falls_short));
        })
        .await?;
    }
    Ok(())
}

/// Splits the tasks, in their order, into portions that do not exceed the limits of the nodes.
fn portions(tasks: Vec<Task>, squares: &[Square], wear: Wear) -> Vec<Vec<Task>> {
    let mut portions = vec![Vec::new()];
    let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
    for task in tasks {
        let hosts = squares[task.square].hosts.each_ref().map(String::as_str);
        let in_all = portions.last().map_or(0, Vec::len);
        let is_worn = |host: &&str| taken.get(host) >= Some(&wear.of_a_host);
        if in_all >= wear.in_all || hosts.iter().any(is_worn) {
            taken.clear();
            portions.push(Vec::new());
        }
        for host in hosts {
            *taken.entry(host).or_default() += 1;
        }
        if let Some(last) = portions.last_mut() {
            last.push(task);
        }
    }
    portions
}

/// Does these runs. No host takes part in two at once.
async fn run_some(
    ground: &Ground,
    squares: &mut [Square],
    order: &Order,
    mut tasks: Vec<Task>,
    mut ran: impl FnMut(&Outcome, bool),
) -> Result<(), MatrixError> {
    let mut busy: BTreeSet<String> = BTreeSet::new();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < order.at_once {
            let free = |task: &Task| {
                let hosts = &squares[task.square].hosts;
                !hosts.iter().any(|host| busy.contains(host))
            };
            let Some(at) = tasks.iter().position(free) else {
                break;
            };
            let task = tasks.remove(at);
            let hosts = squares[task.square].hosts.clone();
            busy.extend(hosts.iter().cloned());
            let transfer = transfer(&squares[task.square], task, order);
            running.push(async move {
                let outcome = transfer.run(ground, task.number, |_, _| {}).await;
                (task, hosts, outcome)
            });
        }
        let Some((task, hosts, outcome)) = running.next().await else {
            return Ok(());
        };
        for host in &hosts {
            busy.remove(host);
        }
        let mut outcome = outcome?;
        outcome.run.sharer = task.sharer;
        let cell = &mut squares[task.square].cell;
        let falls_short = cell.best == Best::Direct && outcome.run.direct.is_none();
        if !outcome.run.complete || falls_short {
            keep(&order.logs, cell, task.number, &outcome);
        }
        ran(&outcome, falls_short);
        cell.runs.push(outcome.run);
    }
}

/// Returns every run of every cell, shuffled. The two hosts of a cell take turns as the sharer.
fn tasks(squares: usize, order: &Order) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    for square in 0..squares {
        for repeat in 0..order.repeats {
            tasks.push(Task {
                square,
                sharer: u8::from(repeat % 2 == 1),
                number: order.seed.wrapping_add(tasks.len() as u64),
            });
        }
    }
    let mut random = ChaCha8Rng::seed_from_u64(order.seed);
    for at in (1..tasks.len()).rev() {
        let other = usize::try_from(random.next_u64() % (at as u64 + 1)).unwrap_or(at);
        tasks.swap(at, other);
    }
    tasks
}

fn transfer(square: &Square, task: Task, order: &Order) -> Transfer {
    let [a, b] = square.hosts.clone();
    let (from, to) = if task.sharer == 0 { (a, b) } else { (b, a) };
    let log = vec!["-vv".to_owned()];
    Transfer {
        from,
        to,
        bytes: order.bytes,
        carrier: square.cell.carrier,
        addresses: order.addresses,
        send: log.clone(),
        get: log,
        patience: PATIENCE,
    }
}

/// Saves the events and logs of both sides of a run. Errors are ignored, so that the matrix continues.
fn keep(folder: &Path, cell: &Cell, number: u64, outcome: &Outcome) {
    let [first, second] = &cell.kinds;
    let name = format!("{first}-x-{second}-{}-{number}", cell.carrier.key());
    let _ = std::fs::create_dir_all(folder);
    let _ = std::fs::write(folder.join(format!("{name}.txt")), outcome.in_words());
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = usize::MAX;

    #[test]
    fn no_portion_wears_its_nodes_out() {
        let square = |hosts: [&str; 2]| Square {
            cell: Cell {
                kinds: hosts.map(str::to_owned),
                carrier: Carrier::Both,
                best: Best::Direct,
                runs: Vec::new(),
            },
            hosts: hosts.map(str::to_owned),
        };
        let squares = [square(["a", "b"]), square(["a", "c"]), square(["d", "e"])];
        let task = |(number, square): (u64, usize)| Task {
            square,
            sharer: 0,
            number,
        };
        let squares_in_turn = [0, 1, 2].into_iter().cycle();
        let tasks: Vec<Task> = (0..9).zip(squares_in_turn).map(task).collect();
        let numbers = |of_a_host, in_all| {
            let wear = Wear { of_a_host, in_all };
            let portions = portions(tasks.clone(), &squares, wear);
            let numbers = |portion: &Vec<Task>| portion.iter().map(|it| it.number).collect();
            portions.iter().map(numbers).collect::<Vec<Vec<u64>>>()
        };
        assert_eq!(numbers(MANY, MANY), [[0, 1, 2, 3, 4, 5, 6, 7, 8]]);
        assert_eq!(numbers(2, MANY), [[0, 1, 2], [3, 4, 5], [6, 7, 8]]);
        let fours = [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8]];
        assert_eq!(numbers(MANY, 4), fours);
    }
}
