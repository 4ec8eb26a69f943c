//! The inherited listeners, at the numbers where sd_listen_fds(3) finds them.

use watt_os::inherited;

use crate::{
    error::{About, StepError},
    launch::Stage,
    plan::LISTEN_FDS_START,
};

pub(crate) fn hand_on(stage: &mut Stage<'_>) -> Result<(), StepError> {
    let listeners = std::mem::take(&mut stage.listeners);
    inherited::hand_on(listeners, LISTEN_FDS_START).map(drop).about("descriptors")
}
