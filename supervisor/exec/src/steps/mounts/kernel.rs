//! The kernel's own file systems, as seen from the program's namespaces.

use std::path::Path;

use watt_os::mount::{self, Forbid, Tree};

use super::{
    cgroups::CGROUPS,
    show,
    view::{Point, View},
};
use crate::{
    error::{About, StepError},
    plan::HideProcesses,
};

const PROC: &str = "/proc";
const SYS: &str = "/sys";
const MQUEUE: &str = "/dev/mqueue";
/// There is nothing to execute in any of them.
const FORBID: Forbid = Forbid { devices: true, executing: true, writing: false };

pub(super) fn proc(hide: HideProcesses, processes_only: bool) -> Result<(), StepError> {
    // By number, which kernels before 5.8 know as well.
    let hide = match hide {
        HideProcesses::None => "hidepid=0",
        HideProcesses::NoAccess => "hidepid=1",
        HideProcesses::Invisible => "hidepid=2",
        HideProcesses::NotPtraceable => "hidepid=4",
    };
    let options = if processes_only { format!("{hide},subset=pid") } else { hide.to_owned() };
    mount::filesystem("proc", Path::new(PROC), &options, FORBID).about(PROC)
}

pub(super) fn sys(view: &View, cgroups: Option<Tree>) -> Result<(), StepError> {
    let forbid = Forbid { writing: true, ..FORBID };
    mount::filesystem("sysfs", Path::new(SYS), "", forbid).about(SYS)?;
    cgroups.map_or(Ok(()), |cgroups| show(view, &cgroups, Path::new(CGROUPS), true, true))
}

pub(super) fn mqueue(view: &View) -> Result<(), StepError> {
    let point = Path::new(MQUEUE);
    view.point(point, Point::Folder, false)?;
    mount::filesystem("mqueue", point, "", FORBID).about(MQUEUE)
}
