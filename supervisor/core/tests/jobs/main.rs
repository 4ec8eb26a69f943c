//! Jobs: what becomes of every instant, and of every change of every zone's clocks.

mod keeper;
mod random;
mod zones;

use watt_core::{
    jobs::{Schedule, Second, Stretch, Zone},
    plan::{CatchUp, Job, Overlap},
    testing,
};

/// A zone whose clocks are never changed.
struct Utc;

impl Zone for Utc {
    fn stretch(&self, _: i64) -> Stretch {
        Stretch { offset: 0, from: None, until: None }
    }
}

fn job(schedule: &str, overlap: Overlap, catch_up: CatchUp) -> Job {
    let schedule = Schedule::parse(schedule).unwrap_or_else(|error| panic!("{schedule}: {error}"));
    Job { schedule, overlap, catch_up, ..testing::job("api") }
}

/// Every instant of a schedule after one and up to another.
fn instants(schedule: &Schedule, zone: &dyn Zone, after: i64, until: i64) -> Vec<i64> {
    let next = |at: &i64| schedule.next(zone, Second(*at)).map(|found| found.0);
    let all = std::iter::successors(next(&after), next);
    all.take_while(|at| *at <= until).collect()
}
