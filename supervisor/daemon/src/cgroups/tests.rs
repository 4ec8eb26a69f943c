//! Limits on cgroups that are plain folders, in which a test writes what the kernel would. A control file that is a pipe is a kernel
//! that takes its time.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use super::*;
use crate::{runs::Run, testing};

/// Longer than anything takes that does not wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// A host whose cgroups are plain folders, and in them the service `api` with the control files of `memory_high`.
struct Folders(tempfile::TempDir);

impl Folders {
    fn new() -> Folders {
        let root = tempfile::tempdir().unwrap();
        let proc = root.path().join("proc/self");
        fs::create_dir_all(&proc).unwrap();
        fs::create_dir_all(root.path().join("cgroup")).unwrap();
        fs::write(proc.join("mountinfo"), "1 0 0:1 / /cgroup rw - cgroup2 cgroup2 rw\n").unwrap();
        fs::write(proc.join("cgroup"), "0::/\n").unwrap();
        let folders = Folders(root);
        let tree = folders.tree();
        tree.make(&tree.worker("api", "0"), &BTreeSet::new()).unwrap();
        for dir in [folders.service(), folders.worker()] {
            fs::write(dir.join("cgroup.controllers"), "memory").unwrap();
            fs::write(dir.join("memory.high"), "").unwrap();
        }
        folders
    }

    fn host(&self) -> cgroup::Host {
        cgroup::Host::detect(self.0.path()).unwrap()
    }

    fn tree(&self) -> Tree {
        Tree::create(&self.host(), "shop")
    }

    fn cgroups(&self) -> Cgroups {
        let found = doctor::Cgroups::none(Mode::Unified, String::new());
        let tree = Some(Arc::new(self.tree()));
        Cgroups {
            host: Some(self.host()),
            tree,
            found,
            pids_by_rlimit: false,
            totals: BTreeMap::new(),
            tenures: BTreeMap::new(),
        }
    }

    fn service(&self) -> PathBuf {
        self.tree().service("api").directories().next().unwrap().clone()
    }

    fn worker(&self) -> PathBuf {
        self.service().join("0")
    }

    /// Writes into files of a worker's group and of the two above it.
    fn put(&self, worker: &WorkerId, name: &str, texts: [&str; 3]) {
        let dir = self.service().join(worker.place());
        fs::create_dir_all(&dir).unwrap();
        for (dir, text) in dir.ancestors().zip(texts) {
            fs::write(dir.join(name), text).unwrap();
        }
    }

    /// From now on nobody who sets it comes back, as while the kernel reclaims.
    fn reclaim(dir: &Path) {
        let file = dir.join("memory.high");
        fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
}

fn api(index: u16) -> WorkerId {
    WorkerId::new(ServiceId::new("api").unwrap(), index)
}

/// `api` may have so much memory, each worker and all of them together.
fn bounded(memory_high: u64) -> Plan {
    let mut plan = testing::plan(&["api"]);
    for service in plan.services.values_mut() {
        service.limits.cgroup.memory_high = Some(memory_high);
        service.limits_total.memory_high = Some(2 * memory_high);
    }
    plan
}

/// What comes of work that must not wait.
fn at_once<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    is_done.recv_timeout(PATIENCE).expect("it does not wait")
}

#[test]
fn limits_of_all_workers_together_are_set_for_the_first_of_them_alone() {
    let folders = Folders::new();
    let mut cgroups = folders.cgroups();
    let plan = bounded(1 << 20);
    let lines = cgroups.create(&api(0), &plan).unwrap().unenforced;
    assert_eq!(fs::read_to_string(folders.service().join("memory.high")).unwrap(), "2097152");
    Folders::reclaim(&folders.service());
    let (mut cgroups, second) = at_once(move || {
        let second = cgroups.create(&api(1), &plan).unwrap().unenforced;
        (cgroups, second)
    });
    assert!(lines.iter().all(|line| !line.starts_with(words::OF_TOTAL)), "{lines:?}");
    assert!(second.iter().all(|line| !line.starts_with(words::OF_TOTAL)), "{second:?}");

    // The group of all went with the last of them.
    cgroups.end(&api(0), true).unwrap();
    let file = folders.service().join("memory.high");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "").unwrap();
    cgroups.create(&api(0), &bounded(1 << 20)).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "2097152");
}

#[test]
fn what_is_not_enforced_of_all_together_is_told_for_each_worker() {
    let folders = Folders::new();
    let mut cgroups = folders.cgroups();
    fs::remove_file(folders.service().join("memory.high")).unwrap();
    let of_total = |lines: &[String]| lines.iter().filter(|line| line.starts_with(words::OF_TOTAL)).count();
    for index in [0, 1] {
        assert_eq!(of_total(&cgroups.create(&api(index), &bounded(1)).unwrap().unenforced), 1);
    }
    cgroups.is_set(&api(0).service, &[]);
    assert_eq!(of_total(&cgroups.create(&api(2), &bounded(1)).unwrap().unenforced), 0);
}

#[test]
fn nothing_is_set_on_the_loop_for_what_runs_already() {
    let folders = Folders::new();
    let mut cgroups = folders.cgroups();
    Folders::reclaim(&folders.service());
    Folders::reclaim(&folders.worker());
    let (adopted, changed, mut cgroups) = at_once(move || {
        let group = cgroups.standing(&api(0), &bounded(1));
        let standing = vec![(group, cgroups.tenure(&api(0)))];
        let adopted = cgroups.adopt(&api(0).service, &bounded(1), standing.clone());
        let changed = cgroups.change(&api(0).service, &bounded(2), standing);
        (adopted, changed, cgroups)
    });
    thread::spawn(|| (adopted(), changed()));
    // While that waits, another worker starts.
    at_once(move || drop(cgroups.create(&api(1), &bounded(2)).unwrap()));
    let (service, worker) = (folders.service(), folders.worker());
    let told = at_once(move || {
        [&service, &worker, &service, &worker].map(|dir| fs::read_to_string(dir.join("memory.high")).unwrap())
    });
    assert_eq!(told, ["2", "1", "4", "2"]);
}

#[test]
fn an_older_change_of_limits_does_not_meet_what_has_the_same_path_later() {
    let folders = Folders::new();
    let mut cgroups = folders.cgroups();
    cgroups.create(&api(0), &bounded(1)).unwrap();
    let standing = vec![(cgroups.standing(&api(0), &bounded(3)), cgroups.tenure(&api(0)))];
    let older = cgroups.change(&api(0).service, &bounded(3), standing);
    cgroups.end(&api(0), true).unwrap();
    cgroups.create(&api(0), &bounded(2)).unwrap();
    assert!(older().is_empty());
    let set = [folders.service(), folders.worker()];
    assert_eq!(set.map(|dir| fs::read_to_string(dir.join("memory.high")).unwrap()), ["4", "2"]);
}

#[tokio::test]
async fn a_group_whose_limits_are_being_set_does_not_go_before_that_is_done() {
    let folders = Folders::new();
    let mut cgroups = folders.cgroups();
    cgroups.create(&api(0), &bounded(1)).unwrap();
    let tenures = [cgroups.tenure(&api(0)), cgroups.totals[&api(0).service].tenure.clone()];
    for tenure in tenures {
        let (set, is_set) = mpsc::channel();
        let (begun, is_begun) = mpsc::channel();
        let setting = thread::spawn(move || {
            tenure.within(|| {
                begun.send(()).unwrap();
                is_set.recv().unwrap();
            })
        });
        is_begun.recv_timeout(PATIENCE).unwrap();
        let busy = cgroups.end(&api(0), true).unwrap_err();
        set.send(()).unwrap();
        tokio::time::timeout(PATIENCE, busy.idle()).await.unwrap();
        assert_eq!(setting.join().unwrap(), Some(()));
    }
    cgroups.end(&api(0), true).unwrap();
}

#[test]
fn every_service_has_a_share_of_the_cpus_but_realtime_ones() {
    let joins = |policy| {
        let mut plan = testing::plan(&["api"]);
        plan.services.values_mut().for_each(|service| service.scheduling.policy = policy);
        let worker = WorkerId::new(plan.services.keys().next().unwrap().clone(), 0);
        Levels::of(&worker.service, &plan).unwrap().controllers().contains(&Controller::Cpu)
    };
    assert!(joins(None) && joins(Some(SchedulingPolicy::Batch)));
    assert!(!joins(Some(SchedulingPolicy::Fifo(1))) && !joins(Some(SchedulingPolicy::RoundRobin(1))));
}

#[test]
fn both_runs_of_a_worker_that_is_replaced_have_their_own_level() {
    let folders = Folders::new();
    let cgroups = folders.cgroups();
    let [first, second] = [api(0), WorkerId { second: true, ..api(0) }];
    let levels = [&first, &second].map(|worker| cgroups.levels(worker).unwrap());
    assert!(levels[0].worker.ends_with("/api/0"), "{levels:?}");
    assert!(levels[1].worker.ends_with("/api/0b"), "{levels:?}");
    assert!(levels[1].service.ends_with("/api") && levels[0].service == levels[1].service, "{levels:?}");
    assert_eq!(levels[0].application, levels[1].application);
    folders.put(&first, "memory.events.local", ["oom 1\n", "oom 3\n", "oom 4\n"]);
    folders.put(&second, "memory.events.local", ["oom 2\n", "oom 3\n", "oom 4\n"]);
    let counts = |worker| oom::Counts { worker, service: 3, application: 4 };
    assert_eq!(cgroups.memory_ended(&first), Some(counts(1)));
    assert_eq!(cgroups.memory_ended(&second), Some(counts(2)));
}

#[test]
fn a_neighbours_kill_for_memory_is_not_put_down_to_the_same_limit_twice() {
    let folders = Folders::new();
    let cgroups = folders.cgroups();
    let other = WorkerId::new(ServiceId::new("web").unwrap(), 0);
    let workers = [api(0), api(1), api(2), other];
    let counts = |service, application| oom::Counts { worker: 0, service, application };
    let mut runs = workers.clone().map(|worker| {
        let mut run = Run::new(worker.clone(), cgroups.standing(&worker, &testing::plan(&["api"])), "", 0);
        run.memory_ended = Some(counts(0, 0));
        run
    });
    // The first and the third were killed at the limit of the service. It is told of the first now, and of the third soon.
    folders.put(&workers[2], "memory.events", ["oom_kill 1\n", "oom_kill 2\n", "oom_kill 2\n"]);
    oom::told_of_neighbour(runs.iter_mut(), &workers[0], &counts(2, 0));
    let ended = |run: &Run, now: oom::Counts| now.since(&run.memory_ended.unwrap());
    assert_eq!(ended(&runs[1], counts(2, 0)), None, "its own is the host's doing");
    assert_eq!(ended(&runs[2], counts(2, 0)), Some(oom::Ended::At(LimitOf::Service)));
    assert_eq!(runs[3].memory_ended, Some(counts(0, 0)), "of another service, with another count");
    oom::told_of_neighbour(runs.iter_mut(), &workers[0], &counts(2, 1));
    assert_eq!(runs[3].memory_ended, Some(counts(0, 1)));
}

#[test]
fn the_level_that_is_full_of_processes_is_the_one_that_refuses_another() {
    let folders = Folders::new();
    let cgroups = folders.cgroups();
    let worker = WorkerId { second: true, ..api(0) };
    let check = |limits: [Option<u32>; 3], peaks: [&str; 3], expected| {
        let mut plan = testing::plan(&["api"]);
        plan.limits.pids = limits[2];
        let service = plan.services.get_mut(&worker.service).unwrap();
        (service.limits.cgroup.pids, service.limits_total.pids) = (limits[0], limits[1]);
        folders.put(&worker, "pids.peak", peaks);
        let group = cgroups.group(&Seat::from(&worker), &Levels::of(&worker.service, &plan).unwrap());
        assert_eq!(cgroups.full_of_processes(&worker, &plan, &group), expected, "{limits:?} {peaks:?}");
    };
    let all = [Some(20), Some(30), Some(40)];
    check(all, ["20", "25", "39"], Some(LimitOf::Worker));
    check(all, ["5", "30", "39"], Some(LimitOf::Service));
    check(all, ["5", "29", "40"], Some(LimitOf::Application));
    // It was at both limits at some time, and which one refused is not known; a unit's or the host's may have as well.
    check(all, ["20", "30", "30"], None);
    check(all, ["19", "29", "39"], None);
    check([None, Some(30), None], ["30", "30", "30"], Some(LimitOf::Service));
}
