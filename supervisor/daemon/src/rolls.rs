//! How far rolls are, as events: one for each worker that was replaced, and one for an end before the last.

use watt_core::fleet::RollProgress;

use crate::{
    app::App,
    events::rolls::{RollFailed, Rolled},
    words,
};

impl App {
    /// Tells what is new of rolls.
    pub(crate) fn tell_rolls(&mut self) {
        for plan in self.plan.services.values() {
            if let Some(why) = self.fleet.failed_roll(&plan.id) {
                let why = words::roll_failed(why, Some(plan));
                self.rolls_told.remove(&plan.id);
                self.events.emit(RollFailed { service: plan.id.clone(), why });
            }
            let progress = self.fleet.roll_progress(&plan.id);
            let before = self.rolls_told.get(&plan.id).copied();
            if progress == before {
                continue;
            }
            let all = || RollProgress {
                replaced: self.fleet.count(&plan.id).into(),
                of: self.fleet.count(&plan.id).into(),
            };
            let told = match progress {
                Some(progress) => {
                    self.rolls_told.insert(plan.id.clone(), progress);
                    Some(progress)
                }
                // The last one has been replaced, or nobody wants it any more.
                None => {
                    self.rolls_told.remove(&plan.id);
                    self.fleet.is_wanted(&plan.id).then(all)
                }
            };
            if let Some(progress) = told {
                self.events.emit(Rolled { service: plan.id.clone(), progress });
            }
        }
    }
}
