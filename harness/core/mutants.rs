// What `build.rs` changes in its copy of core. Included there and in `src/mutant.rs`.

/// One place of core that is different for the simulator, always.
pub struct Small {
    /// Below core's `src`.
    pub file: &'static str,
    /// What stands there, once.
    pub stands: &'static str,
    /// What stands there instead.
    pub instead: &'static str,
}

/// One place of core that is different while the mutant is awake.
#[derive(Debug)]
pub struct Mutant {
    /// What it is called.
    pub name: &'static str,
    /// What is wrong with it.
    pub mistake: &'static str,
    /// Below core's `src`.
    pub file: &'static str,
    /// What stands there, once.
    pub stands: &'static str,
    /// What stands there while it is awake.
    pub instead: &'static str,
    /// Seeds, counted from 0, within which the simulator must notice.
    pub within: u64,
}

/// The small constants.
pub const SMALL: &[Small] = &[Small {
    file: "limits.rs",
    stands: "pub const LEAF: u32 = 16 * 1024;",
    instead: "pub const LEAF: u32 = 256;",
}];

/// All mutants.
pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "bad-leaves-pass",
        mistake: "a leaf that does not match its root is taken",
        file: "engine/download/files.rs",
        stands: "verify_range(root, size, segment.offset, range, proof).is_none()",
        instead: "false",
        within: 100,
    },
];
