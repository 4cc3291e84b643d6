#![no_main]

use handover_harness::plan::Plan;
use handover_harness::sim::run;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Err(failure) = run(&Plan::decode(data)) {
        panic!("{failure}");
    }
});
