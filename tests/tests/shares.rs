//! What few hosts have by themselves, and root can have them have: huge pages, which the kernel keeps apart, and shares of a disk's
//! time, which are the scheduler's bfq or iocost's. The disk is a loop device of the test's own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use serde_json::Value;
use watt_tests::{App, User, is_root, printed, wait};

/// Where the kernel is told how many pages of 2 MB it keeps.
const KEPT: &str = "/proc/sys/vm/nr_hugepages";

/// Takes pages, and more than its limit: with a promise, and without.
const PAGES: &str = r#"
import errno, mmap, os, time

SIZE = 2 << 20
USUAL = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000  # MAP_HUGETLB
MAP_NORESERVE = 0x4000

def take(pages, flags=USUAL):
    try:
        taken = mmap.mmap(-1, pages * SIZE, flags=flags)
    except OSError as error:
        return errno.errorcode[error.errno]
    for page in range(pages):
        taken[page * SIZE] = 1
    kept.append(taken)
    return "taken"

kept = []
print("within:", take(2))
print("beyond:", take(1))
child = os.fork()
if child == 0:
    take(1, USUAL | MAP_NORESERVE)
    os._exit(0)
print("unpromised: signal", os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)
time.sleep(1000)
"#;

#[test]
fn huge_pages_beyond_the_limit_are_refused() {
    let Some(_pages) = Pages::keep(8) else { return };
    let app = App::empty(User::Root);
    app.write("pages.py", PAGES);
    let limits = r#"{ hugetlb: { "2MB": 4M } }"#;
    app.write(
        "watt.yaml",
        &format!("services:\n  pages: {{ command: python3 pages.py, listen: none, limits: {limits} }}\n"),
    );
    app.up();
    assert_eq!(app.service("pages")["unenforced"], Value::Array(Vec::new()), "{}", app.status());
    let said = wait("it has tried", || match app.ok(&["logs", "pages"]) {
        said if said.contains("unpromised") => Ok(said),
        said => Err(said),
    });
    for line in ["within: taken", "beyond: ENOMEM", "unpromised: signal 7"] {
        assert!(said.contains(line), "{line} in {said}");
    }
    let group = group(app.pid("pages", 0), "hugetlb");
    let [bound, refused] = match group.join("hugetlb.2MB.max").exists() {
        true => ["hugetlb.2MB.max", "hugetlb.2MB.events"],
        false => ["hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.failcnt"],
    };
    assert_eq!(read(&group.join(bound)).trim(), "4194304");
    let refused = read(&group.join(refused));
    let times = refused.trim().trim_start_matches("max ").parse::<u32>();
    assert!(times.is_ok_and(|times| times > 0), "{refused}");
    app.down();
}

/// Pages that the kernel keeps while a test runs.
struct Pages {
    before: String,
    /// The v2 hierarchy in which nobody used the controller before.
    unused: Option<PathBuf>,
}

impl Pages {
    fn keep(count: u32) -> Option<Pages> {
        if !is_root() {
            eprintln!("skipped: only root has the kernel keep pages");
            return None;
        }
        let v2 = unified();
        let has = |file: &str| read(&v2.join(file)).split_whitespace().any(|word| word == "hugetlb");
        if !has("cgroup.controllers") && !Path::new("/sys/fs/cgroup/hugetlb").exists() {
            assert!(std::env::var_os("WATT_TEST_MACHINE").is_none(), "the machines' kernel has it");
            eprintln!("skipped: this kernel does not count huge pages");
            return None;
        }
        let unused = (!has("cgroup.subtree_control")).then(|| v2.join("cgroup.subtree_control"));
        let pages = Pages { before: read(Path::new(KEPT)), unused };
        let before: u32 = pages.before.trim().parse().expect("a number");
        fs::write(KEPT, (before + count).to_string()).expect("root may");
        let now: u32 = read(Path::new(KEPT)).trim().parse().expect("a number");
        assert!(now >= before + count, "the kernel keeps {now} pages: its memory is in too small pieces");
        Some(pages)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let _ = fs::write(KEPT, &self.before);
        // Refused where another application has begun to use it, which is right.
        let _ = self.unused.as_ref().map(|control| fs::write(control, "-hugetlb"));
    }
}

/// Reads parts of a disk by chance, past the page cache, until it is ended.
const READER: &str = r#"
import mmap, os, random, sys
disk = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
part = mmap.mmap(-1, 65536)
while True:
    os.preadv(disk, [part], random.randrange(1024) * 65536)
"#;

const DISK_SIZE: u64 = 64 << 20;

/// What both have had of it when shares are compared, in bytes.
const ENOUGH: u64 = 96 << 20;

#[test]
fn a_disk_gives_each_reader_its_share() {
    let Some(app) = is_root().then(|| App::empty(User::Root)) else { return };
    let Some(disk) = Disk::make(&app.dir.join("disk")) else { return };
    app.write("reader.py", READER);
    let reader = format!(
        "command: python3 reader.py {0}, listen: none, sandbox: {{ bind_paths: [{0}] }}",
        disk.device.display()
    );
    app.write(
        "watt.yaml",
        &format!(
            "services:\n  heavy: {{ {reader}, limits_total: {{ io_weight: 10000 }} }}\n  light: {{ {reader}, limits_total: {{ io_weight: 50 }} }}\n"
        ),
    );
    disk.schedule("none");
    app.up();
    let told = |service: &str| app.service(service)["unenforced"].to_string();
    if !Disk::others_heed_weights() {
        assert!(told("heavy").contains("no disk has the scheduler bfq"), "{}", told("heavy"));
    }

    disk.schedule("bfq");
    app.ok(&["limits", "set", "--total", "light", "io_weight=10"]);
    app.ok(&["limits", "set", "--total", "heavy", "io_weight=10000"]);
    assert_eq!([told("heavy"), told("light")], ["[]", "[]"]);
    let [heavy, light] = ["heavy", "light"].map(|service| app.pid(service, 0));
    // Shares are among services: a worker's own is of its service's.
    let group_of = |pid| group(pid, "blkio").parent().expect("the service's").to_owned();
    let file =
        if group_of(heavy).join("blkio.bfq.weight").exists() { "blkio.bfq.weight" } else { "io.bfq.weight" };
    let weight = |pid| read(&group_of(pid).join(file)).trim().trim_start_matches("default ").to_owned();
    // 10,000 is the most there is, which is bfq's 1,000.
    assert_eq!([weight(heavy), weight(light)], ["1000", "10"]);
    let before = [heavy, light].map(bytes_read);
    let since = || [bytes_read(heavy) - before[0], bytes_read(light) - before[1]];
    let [heavy_share, light_share] = wait("they have read enough to compare", || match since() {
        [heavy, light] if heavy + light > ENOUGH && light > 0 => Ok([heavy, light]),
        shares => Err(format!("{shares:?}")),
    });
    eprintln!("heavy has read {heavy_share} bytes, and light {light_share}");
    assert!(heavy_share > 2 * light_share, "heavy has read {heavy_share} bytes, and light {light_share}");

    disk.schedule("none");
    if let Some(_cost) = Cost::turn_on(&disk) {
        app.ok(&["limits", "set", "--total", "heavy", "io_weight=200"]);
        assert_eq!(told("heavy"), "[]");
        assert_eq!(read(&group_of(heavy).join("io.weight")).trim(), "default 200");
    }
    app.down();
}

/// What it reads in a second, in bytes.
const RATE: u64 = 2 << 20;

#[test]
fn a_bound_on_a_disk_is_not_exceeded() {
    let Some(app) = is_root().then(|| App::empty(User::Root)) else { return };
    let Some(disk) = Disk::make(&app.dir.join("disk")) else { return };
    app.write("reader.py", READER);
    let device = disk.device.display();
    app.write(
        "watt.yaml",
        &format!(
            "services:\n  reader:\n    command: python3 reader.py {device}\n    listen: none\n    sandbox: {{ bind_paths: [{device}] }}\n    limits: {{ io: {{ {device}: {{ read_bytes: {RATE} }} }} }}\n"
        ),
    );
    app.up();
    assert_eq!(app.service("reader")["unenforced"], Value::Array(Vec::new()));
    let pid = app.pid("reader", 0);
    let (before, began) = (bytes_read(pid), Instant::now());
    // It may be slower, on a host that is busy, and is never faster.
    let read = wait("it has read for some seconds", || match bytes_read(pid) - before {
        read if read >= 3 * RATE => Ok(read),
        read => Err(read.to_string()),
    });
    let most = RATE as f64 * (began.elapsed().as_secs_f64() + 1.0);
    assert!(read as f64 <= most, "{read} bytes, and {most} are allowed");
    app.down();
}

/// A disk of the test's own.
struct Disk {
    device: PathBuf,
}

impl Disk {
    /// None where the kernel has no such scheduler.
    fn make(file: &Path) -> Option<Disk> {
        for module in ["loop", "bfq"] {
            // Not a module everywhere.
            let _ = Command::new("modprobe").args(["--quiet", module]).status();
        }
        fs::File::create(file).and_then(|file| file.set_len(DISK_SIZE)).expect("a file without blocks");
        let made = Command::new("losetup").args(["--find", "--show"]).arg(file).output();
        let made = made.expect("losetup runs");
        let is_machine = std::env::var_os("WATT_TEST_MACHINE").is_some();
        if !made.status.success() {
            assert!(!is_machine, "{}", printed(&made));
            eprintln!("skipped: there is no loop device: {}", printed(&made));
            return None;
        }
        let disk = Disk { device: String::from_utf8_lossy(&made.stdout).trim().into() };
        if !read(&disk.queue("scheduler")).contains("bfq") {
            assert!(!is_machine, "the machines' kernel has bfq");
            eprintln!("skipped: this kernel has no bfq");
            return None;
        }
        Some(disk)
    }

    fn queue(&self, file: &str) -> PathBuf {
        let name = self.device.file_name().expect("a device");
        Path::new("/sys/block").join(name).join("queue").join(file)
    }

    fn schedule(&self, scheduler: &str) {
        fs::write(self.queue("scheduler"), scheduler).expect("the kernel has it");
        if scheduler == "bfq" {
            // What it guesses to be somebody's foreground gets more than its share, and a device that takes many requests at a time is kept
            // busy rather than fair (bfq-iosched.rst).
            for (setting, value) in [("low_latency", "0"), ("strict_guarantees", "1")] {
                fs::write(self.queue("iosched").join(setting), value).expect("bfq has it");
            }
        }
    }

    fn others_heed_weights() -> bool {
        let disks = fs::read_dir("/sys/block").expect("sysfs is mounted").flatten();
        let by_scheduler =
            disks.map(|disk| read(&disk.path().join("queue/scheduler"))).any(|names| names.contains("[bfq]"));
        by_scheduler || read(&unified().join("io.cost.qos")).contains("enable=1")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

/// iocost is turned on for a disk, which cgroup v2 alone has.
struct Cost {
    number: String,
}

impl Cost {
    fn turn_on(disk: &Disk) -> Option<Cost> {
        let file = unified().join("io.cost.qos");
        if !file.exists() {
            return None;
        }
        let name = disk.device.file_name().expect("a device");
        let number = read(&Path::new("/sys/block").join(name).join("dev")).trim().to_owned();
        fs::write(file, format!("{number} enable=1")).expect("the kernel has it");
        Some(Cost { number })
    }
}

impl Drop for Cost {
    fn drop(&mut self) {
        let _ = fs::write(unified().join("io.cost.qos"), format!("{} enable=0", self.number));
    }
}

fn unified() -> PathBuf {
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
    places.into_iter().find(|place| place.join("cgroup.controllers").exists()).unwrap_or_default()
}

/// The directory of a process's cgroup that has this controller of v1, or else that of v2.
fn group(pid: u32, legacy: &str) -> PathBuf {
    let text = read(Path::new(&format!("/proc/{pid}/cgroup")));
    let of = |key: &str| text.lines().find_map(|line| Some(line.split_once(key)?.1.to_owned()));
    match of(&format!(":{legacy}:/")) {
        Some(path) => Path::new("/sys/fs/cgroup").join(legacy).join(path),
        None => unified().join(of("0::/").expect("it is in one")),
    }
}

/// What a process has had disks read (proc_pid_io(5)).
fn bytes_read(pid: u32) -> u64 {
    let text = read(Path::new(&format!("/proc/{pid}/io")));
    let bytes = text.lines().find_map(|line| line.strip_prefix("read_bytes: ")?.parse().ok());
    bytes.unwrap_or_else(|| panic!("no read_bytes: {text}"))
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}
