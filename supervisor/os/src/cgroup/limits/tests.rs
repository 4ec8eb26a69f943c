//! Limits over plain directories that stand for cgroups.

use std::fs;

use super::*;

const V2_FILES: [&str; 13] = [
    "memory.max",
    "memory.high",
    "memory.low",
    "memory.min",
    "memory.swap.max",
    "memory.oom.group",
    "cpu.max",
    "cpu.weight",
    "cpuset.cpus",
    "pids.max",
    "io.bfq.weight",
    "io.max",
    "hugetlb.2MB.max",
];

fn all() -> Limits {
    Limits {
        memory: Some(64 << 20),
        memory_high: Some(32 << 20),
        memory_low: Some(16 << 20),
        memory_min: Some(8 << 20),
        swap: Some(4096),
        cpu_millis: Some(1500),
        cpu_weight: Some(200),
        cpus: [0, 1].into(),
        pids: Some(100),
        io_weight: None,
        io: BTreeMap::new(),
        hugetlb: [("2MB".to_owned(), 4 << 20)].into(),
        oom_group: true,
    }
}

/// A directory with these files, standing for a cgroup.
fn directory(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        fs::write(dir.path().join(file), "").unwrap();
    }
    dir
}

fn unified(dir: &tempfile::TempDir, controllers: &str) -> Group {
    fs::write(dir.path().join("cgroup.controllers"), controllers).unwrap();
    Group { unified: Some(dir.path().into()), legacy: BTreeMap::new() }
}

#[test]
fn v2_values_are_written_and_lifted() {
    let dir = directory(&V2_FILES);
    let group = unified(&dir, "cpuset cpu io memory hugetlb pids\n");
    let check = |limits: &Limits, expected: [&str; 13]| {
        // A fake file keeps the tail of a longer value, which the kernel's do not.
        V2_FILES.iter().for_each(|file| fs::write(dir.path().join(file), "").unwrap());
        assert_eq!(group.set_limits(limits), []);
        let written = V2_FILES.map(|file| fs::read_to_string(dir.path().join(file)).unwrap());
        assert_eq!(written, expected);
    };
    check(
        &all(),
        [
            "67108864",
            "33554432",
            "16777216",
            "8388608",
            "4096",
            "1",
            "150000 100000",
            "200",
            "0,1\n",
            "100",
            "100",
            "",
            "4194304",
        ],
    );
    check(
        &Limits::default(),
        ["max", "max", "0", "0", "max", "0", "max 100000", "100", "\n", "max", "100", "", "max"],
    );
    check(
        &Limits { memory: Some(1 << 20), cpu_millis: Some(1), ..Limits::default() },
        ["1048576", "max", "0", "0", "0", "0", "1000 1000000", "100", "\n", "max", "100", "", "max"],
    );
}

#[test]
fn in_a_new_group_only_what_is_limited_is_written() {
    let dir = directory(&["memory.max", "memory.swap.max", "memory.high", "pids.max", "cpu.weight"]);
    let group = unified(&dir, "memory pids cpu hugetlb\n");
    assert_eq!(group.set_first_limits(&Limits { memory: Some(4096), ..Limits::default() }), []);
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    let written = ["memory.max", "memory.swap.max", "memory.high", "pids.max", "cpu.weight"].map(read);
    assert_eq!(written, ["4096", "0", "", "", ""]);
    let nowhere = Group::default().set_first_limits(&Limits { pids: Some(1), ..Limits::default() });
    assert_eq!(nowhere.len(), 1);
}

#[test]
fn a_controller_that_is_not_delegated_is_named() {
    let dir = directory(&["pids.max"]);
    let group = unified(&dir, "pids\n");
    let missing: Vec<String> = group.set_limits(&all()).iter().map(ToString::to_string).collect();
    let expected = [
        ("memory", "memory"),
        ("swap", "memory"),
        ("memory_high", "memory"),
        ("memory_low", "memory"),
        ("memory_min", "memory"),
        ("oom_group", "memory"),
        ("cpu", "cpu"),
        ("cpu_weight", "cpu"),
        ("cpuset", "cpuset"),
        ("hugetlb", "hugetlb"),
    ];
    let expected = expected.map(|(limit, controller)| {
        format!("{limit} is not enforced: the cgroup controller {controller} is not available")
    });
    assert_eq!(missing, expected);
    assert_eq!(group.set_limits(&Limits::default()), []);
}

#[test]
fn without_any_cgroup_each_limit_is_named() {
    let limits = Limits { memory: None, swap: None, oom_group: false, ..all() };
    let missing = Group::default().set_limits(&limits);
    assert_eq!(missing.len(), 8, "{missing:?}");
    assert!(missing.iter().all(|entry| entry.reason == Reason::NoCgroup));
    assert_eq!(Group::default().set_limits(&Limits::default()), []);
}

#[test]
fn what_v1_lacks_is_named_and_the_rest_set() {
    let dir = directory(&[
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "memory.soft_limit_in_bytes",
        "cpu.shares",
    ]);
    let legacy = [Controller::Memory, Controller::Cpu].map(|controller| (controller, dir.path().into()));
    let group = Group { unified: None, legacy: legacy.into() };
    let limits = Limits { cpu_millis: None, pids: None, cpus: [].into(), hugetlb: [].into(), ..all() };
    let missing: Vec<_> =
        group.set_limits(&limits).into_iter().map(|entry| (entry.limit, entry.reason)).collect();
    let expected = [
        (LimitName::MemoryHigh, Reason::OnlySoft),
        (LimitName::MemoryLow, Reason::OnlyV2),
        (LimitName::MemoryMin, Reason::OnlyV2),
    ];
    assert_eq!(missing, expected);
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("memory.soft_limit_in_bytes"), "33554432");
    assert_eq!(read("memory.limit_in_bytes"), "67108864");
    assert_eq!(read("memory.memsw.limit_in_bytes"), "67112960");
    assert_eq!(read("cpu.shares"), "2048");
    let swap_alone = Limits { swap: Some(4096), ..Limits::default() };
    let expected = Unenforced { limit: LimitName::Swap, reason: Reason::OnlyWithMemory };
    assert_eq!(group.set_limits(&swap_alone), [expected]);
}

#[test]
fn limits_say_which_controllers_they_need() {
    use Controller::{Cpu, Cpuset, Hugetlb, Memory, Pids};
    assert_eq!(all().controllers(), [Memory, Cpu, Pids, Cpuset, Hugetlb].into());
    assert_eq!(Limits { oom_group: true, ..Limits::default() }.controllers(), [].into());
}
