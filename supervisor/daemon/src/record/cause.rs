//! The notes of why runs ended.

use serde::{Deserialize, Serialize};
use watt_core::{
    plan::Resource,
    worker::{Complaint, ExecFailure, ExitCause, Stall},
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CauseNote {
    Exited(i32),
    Signaled { signal: i32, core_dumped: bool },
    OutOfMemory { limit: Option<u64> },
    Stopped,
    StartTimeout,
    Group,
    Recycled(StallNote),
    Unhealthy(ComplaintNote),
    ExecFailed { step: String, object: String, errno: i32 },
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct StallNote {
    resource: ResourceNote,
    percent: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ResourceNote {
    Memory,
    Cpu,
    Io,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ComplaintNote {
    Check { failures: u32 },
    Watchdog,
    Itself,
}

impl From<Complaint> for ComplaintNote {
    fn from(complaint: Complaint) -> Self {
        match complaint {
            Complaint::Check { failures } => ComplaintNote::Check { failures },
            Complaint::Watchdog => ComplaintNote::Watchdog,
            Complaint::Itself => ComplaintNote::Itself,
        }
    }
}

impl From<ComplaintNote> for Complaint {
    fn from(note: ComplaintNote) -> Self {
        match note {
            ComplaintNote::Check { failures } => Complaint::Check { failures },
            ComplaintNote::Watchdog => Complaint::Watchdog,
            ComplaintNote::Itself => Complaint::Itself,
        }
    }
}

impl From<Stall> for StallNote {
    fn from(stall: Stall) -> Self {
        let resource = match stall.resource {
            Resource::Memory => ResourceNote::Memory,
            Resource::Cpu => ResourceNote::Cpu,
            Resource::Io => ResourceNote::Io,
        };
        StallNote { resource, percent: stall.percent }
    }
}

impl From<StallNote> for Stall {
    fn from(note: StallNote) -> Self {
        let resource = match note.resource {
            ResourceNote::Memory => Resource::Memory,
            ResourceNote::Cpu => Resource::Cpu,
            ResourceNote::Io => Resource::Io,
        };
        Stall { resource, percent: note.percent }
    }
}

impl From<&ExitCause> for CauseNote {
    fn from(cause: &ExitCause) -> Self {
        match cause {
            ExitCause::Exited(status) => CauseNote::Exited(*status),
            ExitCause::Signaled { signal, core_dumped } => {
                CauseNote::Signaled { signal: *signal, core_dumped: *core_dumped }
            }
            ExitCause::OutOfMemory { limit } => CauseNote::OutOfMemory { limit: *limit },
            ExitCause::Stopped => CauseNote::Stopped,
            ExitCause::StartTimeout => CauseNote::StartTimeout,
            ExitCause::Group => CauseNote::Group,
            ExitCause::Recycled(stall) => CauseNote::Recycled((*stall).into()),
            ExitCause::Unhealthy(complaint) => CauseNote::Unhealthy((*complaint).into()),
            ExitCause::ExecFailed(failure) => CauseNote::ExecFailed {
                step: failure.step.clone(),
                object: failure.object.clone(),
                errno: failure.errno,
            },
            ExitCause::Unknown => CauseNote::Unknown,
        }
    }
}

impl From<CauseNote> for ExitCause {
    fn from(note: CauseNote) -> Self {
        match note {
            CauseNote::Exited(status) => ExitCause::Exited(status),
            CauseNote::Signaled { signal, core_dumped } => ExitCause::Signaled { signal, core_dumped },
            CauseNote::OutOfMemory { limit } => ExitCause::OutOfMemory { limit },
            CauseNote::Stopped => ExitCause::Stopped,
            CauseNote::StartTimeout => ExitCause::StartTimeout,
            CauseNote::Group => ExitCause::Group,
            CauseNote::Recycled(stall) => ExitCause::Recycled(stall.into()),
            CauseNote::Unhealthy(complaint) => ExitCause::Unhealthy(complaint.into()),
            CauseNote::ExecFailed { step, object, errno } => {
                ExitCause::ExecFailed(ExecFailure { step, object, errno })
            }
            CauseNote::Unknown => ExitCause::Unknown,
        }
    }
}
